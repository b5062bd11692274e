"""Trying the next host: a migration for which no host was named goes on as another when its destination fails.

Nova's reschedule, and further: a copy that failed is tried elsewhere, too, once all of it was undone and the guest runs
again. The next attempt is a migration of its own (*successor*), with its own fence and flow. It is written in the very
transaction that closes the one before it: the server's task state does not change in between, so nobody else gets hold
of the server. Who dies between that and the board leaves a row in phase ``posting``, which the reconciler posts.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from hostler import networks
from hostler.errors import ImageTransferError, ImageUnreadable, InstanceNotFound, NoValidHost
from hostler.jobboard import resizing
from hostler.jobboard.board import Board
from hostler.jobboard.details import StoredFlow
from hostler.jobboard.posting import write_flow
from hostler.jobboard.reconciler import post_again
from hostler.objects import DEST, Flavor
from hostler.records import fence, instances, moves
from hostler.records.database import Database
from hostler.records.models import Instance, Migration, new_uuid
from hostler.scheduling import Request
from hostler.scheduling.scheduler import Scheduler

LOG = logging.getLogger(__name__)

#: What an attempt does not take over from the one before it: all else of the record is the request.
_OWN = (
    *("uuid", "dest_compute", "status", "phase", "flow_uuid", "outcome", "error", "hint", "cancel_reason"),
    *("down_host", "report", "excluded", "attempt", "retry_of", "created_at", "updated_at", "finished_at"),
)


@dataclass(frozen=True)
class NextTry:
    """What becomes of a migration whose destination failed."""

    excluded: dict[str, str] = field(default_factory=dict)  #: the hosts tried so far, and why not again
    host: str | None = None  #: the next one
    why_none: str = ""  #: a sentence, where there is none


def plan(
    scheduler: Scheduler, session: Session, row: Migration, flow: StoredFlow, alive: Container[str]
) -> NextTry | None:
    """Return what is tried next after *flow* was undone; None where that is no question.

    It is none if the operator named the host, cancelled or reverted it, or if the destination is not to blame.
    """
    if row.excluded is None or row.cancel_reason is not None or row.down_host is not None:
        return None
    reason = against_destination(row, flow)
    if reason is None or not flow.reverted["rescheduled"]:
        return None
    excluded = {**row.excluded, row.dest_compute: reason}
    if row.attempt >= scheduler.max_attempts:
        return NextTry(excluded, why_none=f"{row.attempt} hosts were tried, which is max_attempts")
    try:
        instance = instances.get(session, row.instance_uuid)
        request = _request(scheduler, session, row, instance, excluded)
        return NextTry(excluded, host=scheduler.choose(session, request, alive)[0])
    except (NoValidHost, InstanceNotFound) as error:
        return NextTry(excluded, why_none=str(error))


def _request(
    scheduler: Scheduler, session: Session, row: Migration, instance: Instance, excluded: dict[str, str]
) -> Request:
    """Return what the next host is wanted for: the server as it is, or as the resize makes it."""
    if row.new_flavor is None:
        return Request.of(session, instance, excluded=excluded, network_map=row.network_map)
    new, in_place = Flavor.from_dict(row.new_flavor), scheduler.resizes_in_place
    return resizing.request(
        session, instance, new, same_host=in_place, excluded=excluded, network_map=row.network_map
    )


def against_destination(row: Migration, flow: StoredFlow) -> str | None:
    """Return, as a sentence, what speaks against the destination; None if something else has failed."""
    step = next((step for step in flow.shape if flow.atoms[step.name].failure), None)
    if step is None:  # nothing failed: it was turned round, and perhaps since that host is dead
        found: str | None = (row.excluded or {}).get(row.dest_compute)
        return found
    failure = flow.failure()
    kinds = failure.get("exc_type_names") or []
    copy_failed = _named(ImageTransferError) in kinds and _named(ImageUnreadable) not in kinds
    if not step.elsewhere or not (step.where == DEST or copy_failed):
        return None
    return str(failure.get("exception_str") or f"{step.name} failed")


def write_successor(session: Session, row: Migration, next_try: NextTry) -> Migration:
    """Write the next attempt, its fence and its flow; its task state is that of the attempt before."""
    assert next_try.host is not None
    columns = (column.name for column in Migration.__table__.columns)
    facts: dict[str, Any] = {name: getattr(row, name) for name in columns if name not in _OWN}
    successor = Migration(
        uuid=new_uuid(),
        dest_compute=next_try.host,
        status="pre-migrating",
        phase="posting",
        flow_uuid="",
        excluded=next_try.excluded,
        attempt=row.attempt + 1,
        retry_of=row.uuid,
        **facts,
    )
    session.add(successor)
    fence.open_fence(session, successor.uuid)
    write_flow(session, successor, moves.arguments(session, row.flow_uuid))
    said = f"attempt {successor.attempt}, after {row.dest_compute} ({row.uuid})"
    fence.add_event(session, successor.uuid, "", "posted", said)
    return successor


def post_successor(database: Database, board: Board, migration: str) -> None:
    """Post the attempt that follows *migration*, if one was written and nobody has posted it."""
    with fence.away_ends_the_leg(), database.reading() as session:
        found = moves.successor(session, migration)
    if found is not None and found.phase == "posting":
        LOG.info("%s: goes on with %s", found.instance_name, found.dest_compute)
        with fence.away_ends_the_leg():
            post_again(database, board, found)


def given_up(row: Migration, error: str | None, next_try: NextTry) -> dict[str, str]:
    """Return error and hint of the last attempt."""
    size = ["resize", "--flavor", row.new_flavor["name"]] if row.new_flavor else ["migrate"]
    asked = networks.words(row.network_map)
    hint = shlex.join(["hostler", "server", *size, *asked, "--dry-run", "--", row.instance_name])
    return {"error": "; ".join(filter(None, (error, next_try.why_none))), "hint": hint}


def _named(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
