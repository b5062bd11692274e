"""Comparing the records with the boards: ZooKeeper holds no history and may be lost whole.

Every worker does this for all migrations: each change is one transaction that expects what was seen, so that several
may do it at once.
"""

from __future__ import annotations

import datetime
import logging

from hostler.errors import FlowUnreadable
from hostler.jobboard.baton import Execute, Revert, decide
from hostler.jobboard.board import Board
from hostler.jobboard.details import load_flow
from hostler.jobboard.jobs import Posting
from hostler.jobboard.posting import host_of, withdraw
from hostler.records import fence, instances, moves
from hostler.records.database import Database
from hostler.records.models import Migration, now

LOG = logging.getLogger(__name__)


class Reconciler:
    """Puts back jobs that are missing, gives up rows that were never posted, lets go of servers that nobody moves."""

    def __init__(self, database: Database, board: Board, posting_timeout_s: float) -> None:
        self._database = database
        self._board = board
        self._posting_timeout = datetime.timedelta(seconds=posting_timeout_s)

    def run(self) -> list[str]:
        """Compare once; return, as sentences, what was mended."""
        with self._database.reading() as session:
            under_way = moves.in_phase(session, "posting", "open")
        mended = []
        for migration in under_way:
            if self._has_job(migration):
                continue
            if migration.phase == "open" or self._follows_unposted(migration):
                mended += post_again(self._database, self._board, migration)
            elif self._is_overdue(migration):
                withdraw(
                    self._database, migration, "it was never posted: whoever asked for it died in between"
                )
                mended.append(f"migration {migration.uuid} was never posted and is given up")
        mended += self._release_servers()
        self._mind_signs()
        for sentence in mended:
            LOG.warning("%s", sentence)
        return mended

    def _is_overdue(self, migration: Migration) -> bool:
        return now() - migration.updated_at > self._posting_timeout

    def _follows_unposted(self, migration: Migration) -> bool:
        """Tell whether this is the next attempt of a worker that died before it had posted it."""
        return migration.retry_of is not None and self._is_overdue(migration)

    def _has_job(self, migration: Migration) -> bool:
        """Tell whether the job is on a board; the server's node says on which, and moves with it."""
        while True:
            place = self._board.place(migration.instance_uuid)
            if place is None or place.migration != migration.uuid:
                return False
            posting = self._board.posting(place.board, migration.uuid)
            if posting is not None and posting.flow_uuid == migration.flow_uuid:
                return True
            if self._board.place(migration.instance_uuid) == place:
                return False

    def _release_servers(self) -> list[str]:
        mended = []
        for instance in self._board.held_instances():
            place = self._board.place(instance)
            if place is None or not place.migration:
                continue
            with self._database.reading() as session:
                row = session.get(Migration, place.migration)
                if row is not None and row.phase in instances.UNDER_WAY:
                    continue
            if self._board.posting(place.board, place.migration) is None:
                self._board.release(instance, place)
                mended.append(
                    f"server {instance} was held for migration {place.migration}, which is over: let go"
                )
        return mended

    def _mind_signs(self) -> None:
        """Put up wishes that are on record; remove those of migrations that are over, and notices of parked ones
        that are not parked any more.
        """
        with self._database.reading() as session:
            under_way = {one.uuid: one for one in moves.in_phase(session, "posting", "open")}
            parked = {one.uuid for one in moves.in_phase(session, "parked")}
        wishes = set(self._board.wishes())
        for migration in wishes - under_way.keys():
            self._board.forget_wish(migration)
        for migration, row in under_way.items():
            if row.cancel_reason is not None and migration not in wishes:
                self._board.wish(migration)
        for migration in set(self._board.all_parked()) - parked:
            self._board.unpark(migration)


def post_again(database: Database, board: Board, migration: Migration) -> list[str]:
    """Put the job of an open migration on the board of whose turn it is; return, as a sentence, that it was done.

    So, too, that of an attempt that follows another, which nobody has posted yet.
    """
    with database.reading() as session:
        current = moves.get(session, migration.uuid)
        epoch = fence.current_epoch(session, migration.uuid)
        if current.phase not in ("posting", "open") or current.flow_uuid != migration.flow_uuid:
            return []
        try:
            flow = load_flow(session, current.flow_uuid)
        except FlowUnreadable as error:
            LOG.error("%s", error)
            return []
    decision = decide(flow.shape, flow.states)
    ours = decision.step if isinstance(decision, (Execute, Revert)) else flow.shape[-1]
    host = host_of(ours, current)
    posting = Posting(current.uuid, current.instance_uuid, current.flow_name, current.flow_uuid, epoch=epoch)
    if not board.post(host, posting):
        return []
    return [f"the job of migration {current.uuid} was gone and is on {host}'s board again"]
