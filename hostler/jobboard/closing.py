"""Closing a migration whose flow is over, in one transaction: what becomes of its record, and of its server's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from hostler.errors import kept_hint
from hostler.jobboard import rescheduling
from hostler.jobboard.details import StoredFlow
from hostler.jobboard.rescheduling import NextTry
from hostler.records import fence, instances, moves
from hostler.records.fence import FencedRecords
from hostler.records.models import Migration, now
from hostler.records.states import STATUS


def carried_out(session: Session, row: Migration) -> str:
    """Close a migration whose flow was carried out; return its outcome."""
    changes: dict[str, Any] = {"outcome": "success", "error": None, "hint": None, "finished_at": now()}
    moves.save(session, row.uuid, phase="closed", **changes)
    return "success"


def reverted(
    session: Session, records: FencedRecords, row: Migration, flow: StoredFlow, next_try: NextTry | None
) -> str:
    """Close a migration whose flow was undone, or let *next_try* go on with its server; return its outcome."""
    failure = flow.failure()
    outcome = "refused" if "hostler.errors.Refused" in failure.get("exc_type_names", []) else "reverted"
    ending: Mapping[str, Any] = flow.reverted
    # Held: a wish comes before this or is refused; after it the next attempt takes none for this one.
    current = moves.get(session, row.uuid, hold=True)
    if current.cancel_reason is not None or current.excluded is None:
        next_try = None
    error = failure.get("exception_str") or current.error
    if "hostler.errors.Cancelled" in failure.get("exc_type_names", []):
        error = f"it was cancelled: {current.cancel_reason}"
    changes: dict[str, Any] = {
        "status": _final_status(session, records, current, ending["status"]),
        "error": error,
        "hint": kept_hint(failure) or None,
    }
    if expected := ending["expected_task_state"]:
        changes |= _let_go_or_retry(session, records, current, expected, error, next_try)
    moves.save(session, row.uuid, phase="closed", outcome=outcome, finished_at=now(), **changes)
    if ending["status"] == "finished":  # what the way out has written down is still needed
        fence.forget(session, row.uuid, [step.name for step in flow.shape])
    return outcome


def _final_status(session: Session, records: FencedRecords, current: Migration, ending: str | None) -> str:
    """Return the status of a migration that was undone; one that others have set stays."""
    status = ending or current.status
    if current.cancel_reason is not None and status == "error":
        status = "cancelled"
    if STATUS.allows(current.status, status):
        return status
    records.note(session, "kept", f"its status {current.status} is not this flow's, and was left")
    return current.status


def _let_go_or_retry(
    session: Session,
    records: FencedRecords,
    row: Migration,
    expected: str,
    error: str | None,
    next_try: NextTry | None,
) -> dict[str, str]:
    """Keep the server for the next attempt, or say that nobody works on it; return changes of the record."""
    found = instances.get(session, row.instance_uuid).task_state
    if next_try is not None and next_try.host is not None and found == expected:
        successor = rescheduling.write_successor(session, row, next_try)
        records.note(session, "rescheduled", f"goes on with {next_try.host}, as {successor.uuid}")
        return {}
    _let_go(session, records, row.instance_uuid, expected)
    if next_try is None or next_try.host is not None:
        return {}
    records.note(session, "given-up", next_try.why_none)
    return rescheduling.given_up(row, error, next_try)


def _let_go(session: Session, records: FencedRecords, instance: str, expected: str) -> None:
    """Say that nobody works on the server any more; what somebody else has written meanwhile stays."""
    found = instances.get(session, instance).task_state
    if found == expected:
        instances.save(session, instance, expected_task_state=[expected], task_state=None)
    elif found is not None:
        records.note(session, "kept", f"its task state {found} is not this migration's, and was left")
