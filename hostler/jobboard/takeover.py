"""Taking a migration off a host that is dead, as long as it has not got the server.

Until the hand-over no instruction of the guest has run on the destination, and nothing there survives a power cut as
runnable: the source may walk back without it. Behind the hand-over only the destination has the server, and only an
operator can say more. A server that goes back is the destination's until it is handed back: the destination may walk
back without the source, and never the source without the destination, whose guest may run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from hostler.errors import FlowUnreadable, Refused
from hostler.jobboard import turning
from hostler.jobboard.board import Board
from hostler.jobboard.details import load_flow
from hostler.jobboard.jobs import Posting
from hostler.records import moves
from hostler.records.database import Database
from hostler.tasks.base import MigrationFacts

LOG = logging.getLogger(__name__)


def take_over(database: Database, board: Board, host: str, dead: Iterable[str]) -> list[str]:
    """Move the jobs that *host* may walk back by itself from the boards of the *dead*; return the migrations."""
    taken = []
    for other in dead:
        for migration in board.jobs(other):
            posting = board.posting(other, migration)
            if posting is None or not _may_walk_back(database, posting, host):
                continue
            if board.take_over(posting, other, host):
                LOG.warning(
                    "migration %s is taken off %s, which has had no worker for too long", migration, other
                )
                taken.append(migration)
    return taken


def _may_walk_back(database: Database, posting: Posting, host: str) -> bool:
    with database.reading() as session:
        try:
            row = moves.get(session, posting.migration)
            flow = load_flow(session, posting.flow_uuid)
            return turning.keeper(row) == host and not turning.is_past_return(
                session, flow, MigrationFacts.of(row)
            )
        except (Refused, FlowUnreadable):  # a record that it needs is missing or damaged
            return False
