"""What an operator may do to a migration that is under way or parked. Each is recorded with who, when and why.

A verb is decided by one compare-and-swap of the record, so that of two operators one acts. A parked migration then goes
back to a board as any lost job does: should that fail, the reconciler sees to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from sqlalchemy import update
from sqlalchemy.orm import Session
from taskflow import states

from hostler import flows
from hostler.errors import InstanceInvalidState, Refused
from hostler.flows.shape import Step
from hostler.jobboard import turning
from hostler.jobboard.baton import Stuck, decide
from hostler.jobboard.board import Board
from hostler.jobboard.details import StoredFlow, load_flow
from hostler.jobboard.reconciler import post_again
from hostler.records import fence, moves
from hostler.records.database import Database
from hostler.records.models import AtomRow, Migration
from hostler.tasks.base import MigrationFacts

LOG = logging.getLogger(__name__)

#: Changes the steps of a parked flow; returns what the history says.
Change = Callable[[Session, Migration, StoredFlow], str]

#: Flows that a wish turns round; a confirmation has nothing to undo.
CANCELLABLE = (*flows.MOVES, "revert_resize")


class StepNotSkippable(Refused):
    """The step guards data: taken as done although it is not, something would be lost."""

    template = "{step} guards the server's data and is never skipped"
    hint_template = "hostler migration retry {migration}"


def cancel(database: Database, board: Board, name: str, *, who: str, reason: str) -> str:
    """Wish a migration undone; return its uuid. Behind the hand-over there is no way back: refused.

    The wish and the hand-over exclude each other: each is a compare-and-swap that requires the other not to be. A
    ZooKeeper that is away then only delays it: the reconciler of each host puts up what is on record. Of a
    migration that went on with another host the attempt that is under way is meant.
    """
    with database.transaction() as session:
        row = moves.get(session, moves.attempts(session, moves.find(session, name))[-1].uuid, hold=True)
        _refuse_handed_over(session, row, "cancel")
        if row.phase == "parked":
            raise _wrong_phase(
                row, "cancel", "under way", f"hostler migration revert {row.uuid} --reason ..."
            )
        wished = session.execute(
            update(Migration)
            .where(
                Migration.uuid == row.uuid,
                Migration.phase.in_(("posting", "open")),
                Migration.flow_name.in_(CANCELLABLE),
                Migration.status != "finished",
            )
            .values(cancel_reason=reason)
            .execution_options(synchronize_session=False)
        )
        if wished.rowcount != 1:  # type: ignore[attr-defined]
            raise _wrong_phase(
                row, "cancel", "a migration that is under way", f"hostler migration show {row.uuid}"
            )
        fence.add_event(session, row.uuid, "", "cancel", f"{who}: {reason}")
    try:
        board.wish(row.uuid)
    except (KazooException, KazooTimeoutError) as error:
        LOG.warning(
            "the wish is on record and will be heeded, but ZooKeeper does not answer (%s): a copy that is under way"
            " stops when a worker sees it, within a minute after ZooKeeper is back",
            str(error) or type(error).__name__,
        )
    return row.uuid


def retry(database: Database, board: Board, name: str, *, who: str, reason: str = "") -> str:
    """Let a parked migration go on with the step at which it stopped, forward or walking back; return its uuid."""

    def change(session: Session, _row: Migration, flow: StoredFlow) -> str:
        decision = decide(flow.shape, flow.states)
        if isinstance(decision, Stuck):
            _set_undo(session, flow, decision.step, states.SUCCESS)
        return f"retry by {who}" + (f": {reason}" if reason else "")

    return _resolve(database, board, name, "retry", change)


def revert(database: Database, board: Board, name: str, *, who: str, reason: str) -> str:
    """Let a parked migration walk back; return its uuid. Refused behind the hand-over."""

    def change(session: Session, row: Migration, flow: StoredFlow) -> str:
        _refuse_handed_over(session, row, "revert")
        decision = decide(flow.shape, flow.states)
        if isinstance(decision, Stuck):
            _set_undo(session, flow, decision.step, states.SUCCESS)
        turning.turn_round(session, flow, row.uuid, f"it was reverted by {who}: {reason}")
        moves.save(session, row.uuid, excluded=None)  # whoever reverts by hand wants it to stay where it is
        return f"revert by {who}: {reason}"

    return _resolve(database, board, name, "revert", change)


def skip(database: Database, board: Board, name: str, step_name: str, *, who: str, reason: str) -> str:
    """Take the step at which a parked migration stopped as done (or undone), and go on; return its uuid.

    A step that guards data is refused, and so is any other than the one at which it stopped.
    """

    def change(session: Session, row: Migration, flow: StoredFlow) -> str:
        decision = decide(flow.shape, flow.states)
        step = getattr(decision, "step", None)
        if step is None or step.name != step_name:
            stopped = step.name if step else "no step"
            raise Refused(
                f"migration {row.uuid} stopped at {stopped}, not at {step_name!r}",
                hint=f"hostler migration skip {row.uuid} {stopped!r} --reason ...",
            )
        if not step.skippable:
            raise StepNotSkippable(step=step.name, migration=row.uuid)
        forward = not isinstance(decision, Stuck) and flow.states[step.name][1] == states.EXECUTE
        if forward:
            _set_done(session, flow, step)
        else:
            _set_undo(session, flow, step, states.REVERTED)
        return f"{step.name} skipped by {who}: {reason}"

    return _resolve(database, board, name, "skip", change)


def _resolve(database: Database, board: Board, name: str, verb: str, change: Change) -> str:
    """Change a parked migration's steps and put its job back on the board of whose turn it is."""
    with database.transaction() as session:
        row = moves.find(session, name)
        taken = session.execute(
            update(Migration)
            .where(Migration.uuid == row.uuid, Migration.phase == "parked")
            .values(phase="open", outcome=None, hint=None)
            .execution_options(synchronize_session=False)
        )
        if taken.rowcount != 1:  # type: ignore[attr-defined]
            raise _wrong_phase(row, verb, "parked", f"hostler migration show {row.uuid}")
        said = change(session, row, load_flow(session, row.flow_uuid))
        fence.add_event(session, row.uuid, "", verb, said)
    post_again(database, board, row)
    board.unpark(row.uuid)
    return row.uuid


def _set_undo(session: Session, flow: StoredFlow, step: Step, state: str) -> None:
    """Forget that the undo of *step* failed: SUCCESS undoes it again, REVERTED takes it as undone."""
    _set(session, flow, step, state=state, intention=states.REVERT, revert_failure=None, revert_results=None)


def _set_done(session: Session, flow: StoredFlow, step: Step) -> None:
    _set(session, flow, step, state=states.SUCCESS, intention=states.EXECUTE, failure=None)


def _set(session: Session, flow: StoredFlow, step: Step, **values: object) -> None:
    session.execute(
        update(AtomRow)
        .where(AtomRow.uuid == flow.atoms[step.name].uuid)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _refuse_handed_over(session: Session, row: Migration, verb: str) -> None:
    flow = load_flow(session, row.flow_uuid)
    if turning.is_past_return(session, flow, MigrationFacts.of(row)):
        raise _wrong_phase(row, verb, "before its point of no return", f"hostler migration retry {row.uuid}")


def _wrong_phase(row: Migration, verb: str, allowed: str, hint: str) -> InstanceInvalidState:
    state = {"closed": f"over ({row.status})", "open": "under way", "posting": "under way"}.get(
        row.phase, row.phase
    )
    return InstanceInvalidState(
        f"migration {row.uuid} of {row.instance_name!r} is {state}: cannot {verb} it; it must be {allowed}",
        server=row.instance_name,
        state=row.phase,
        method=verb,
        allowed=allowed,
        hint=hint,
    )
