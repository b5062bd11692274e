"""One leg: one host's turn at one migration, from the claim until the job is somewhere else."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import PurePath

from kazoo.exceptions import KazooException
from oslo_context.context import RequestContext
from taskflow import states
from taskflow.types.notifier import Notifier

from hostler.errors import FlowUnreadable, Park, Passing, and_then, kept_hint
from hostler.jobboard import closing, debts, rescheduling, turning
from hostler.jobboard.baton import Execute, Finished, Revert, Stuck, decide
from hostler.jobboard.board import Board
from hostler.jobboard.boundary import Boundary
from hostler.jobboard.details import LegBackend, LegEngine, StoredFlow, load_flow
from hostler.jobboard.jobs import Claim, Posting
from hostler.jobboard.posting import host_of, mark_posted
from hostler.jobboard.rescheduling import NextTry
from hostler.jobboard.tether import Tether
from hostler.metrics.meter import Meter
from hostler.records import fence, moves
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.models import Migration
from hostler.scheduling.scheduler import Scheduler
from hostler.tasks.base import Drivers, MigrationFacts, Timeouts, retry_once_mended
from hostler.tracing.tracer import Tracer, Turn, TurnFacts, Untraced

LOG = logging.getLogger(__name__)

#: What says nothing of the migration: a server did not answer, and is asked again.
PASSING = (Passing, KazooException)
#: In which state a step is that a worker was about when it was interrupted.
_BEGUN = {Execute: states.RUNNING, Revert: states.REVERTING}


class End(enum.Enum):
    """How a leg ended."""

    HANDED_OVER = "handed over"
    FINISHED = "finished"
    PARKED = "parked"
    GIVEN_BACK = "given back"  #: the worker ends; the job waits on this board
    STALE = "stale"  #: the migration is over, or the job is not its own


class MigrationLeg:
    """A claimed job on this host; the steps see it as their argument *leg*."""

    def __init__(
        self,
        claim: Claim,
        board: Board,
        database: Database,
        drivers: Drivers,
        timeouts: Timeouts,
        state_path: str,
        tether: Tether,
        is_dead: Callable[[str], bool] = lambda _host: False,
        scheduler: Scheduler | None = None,
        lock: int | None = None,
        meter: Meter | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.claim = claim
        self.board = board
        self.database = database
        self.drivers = drivers
        self.timeouts = timeouts
        self.state_path = str(PurePath(state_path))
        self.tether = tether
        self.lock = lock
        self._is_dead = is_dead
        self._scheduler = scheduler
        self._meter = meter or Meter()
        self._tracer = tracer or Untraced()
        self._turn: Turn
        self.host = claim.host
        self.records = FencedRecords(database, claim.posting.migration, claim.posting.epoch, claim.host)
        self.migration: MigrationFacts
        self._engine_error = "it raised nothing"

    # -- what the steps see -------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """See :class:`hostler.tasks.base.Leg`."""
        self.tether.checkpoint()

    def pause(self, seconds: float) -> None:
        """See :class:`hostler.tasks.base.Leg`."""
        self.tether.pause(seconds)

    def cancellable(self) -> AbstractContextManager[None]:
        """See :class:`hostler.tasks.base.Leg`."""
        return self.tether.cancellable()

    # -- the leg ------------------------------------------------------------------------------------------

    def run(self) -> End:
        """Work on the job until it is not this host's any more; :class:`~hostler.errors.Interrupted` passes."""
        with self._tracer.turn(_turn(self.claim)) as self._turn:
            end = self._run()
            self._turn.ended(end.value)
        return end

    def _run(self) -> End:
        row = self._begin()
        if row is None:
            self.board.consume(self.claim)
            rescheduling.post_successor(self.database, self.board, self.claim.posting.migration)
            return End.STALE
        if row.phase == "parked":  # its worker died between the record and the board
            return self._park(None, row.error or "no reason is on record", [row.hint] if row.hint else [])
        try:
            return self._take_turns(row)
        except Park as parking:
            return self._park(None, parking.reason, parking.commands)
        except FlowUnreadable as error:
            return self._park(None, str(error), [])
        except PASSING:
            raise
        except Exception as error:
            if self.claim.posting.attempts < self.timeouts.max_attempts:
                raise
            LOG.exception("migration %s: the leg failed once more", row.uuid)
            reason = f"{self.host} failed {self.claim.posting.attempts} times at it: {_said(error)}"
            return self._park(None, reason, [retry_once_mended(self, error)])

    def _begin(self) -> Migration | None:
        """Raise the fence; return the migration, or None if the job is not of its present flow."""
        posting = self.claim.posting
        with fence.away_ends_the_leg(), self.database.transaction() as session:
            if not fence.raise_fence(session, posting.migration, posting.epoch):
                return None
            mark_posted(session, posting.migration)
            row = session.get(Migration, posting.migration, populate_existing=True)
            if row is None or row.phase == "closed" or not _is_of(posting, row):
                session.rollback()  # the fence stays as it is: it may be that of the present flow
                return None
            self.records.note(session, "claimed", f"{self.host} works on it")
        self.migration = MigrationFacts.of(row)
        RequestContext(request_id=row.request_id)  # this thread's: oslo.log writes it into each line
        return row

    def _take_turns(self, row: Migration) -> End:
        before = None
        while True:
            flow, row = self._look(row)
            if before is None:
                self._refuse_hopeless(flow)
            elif before == flow.states:
                raise Park(f"TaskFlow's engine came back without having done anything: {self._engine_error}")
            before = flow.states
            decision = decide(flow.shape, before)
            if isinstance(decision, Stuck | Finished):
                return self._end(row, flow, decision)
            host = host_of(decision.step, row)
            if self._turned_round(row, flow, decision, host) or self._owed(row, flow, decision, host):
                continue
            if host != self.host:
                return self._hand_over(host, decision)
            if self.tether.ending:
                self.board.abandon(self.claim, counts=False)
                return End.GIVEN_BACK
            self._run_engine(row, flow, decision)

    def _look(self, row: Migration) -> tuple[StoredFlow, Migration]:
        """Return flow and migration as the records have them now."""
        with self.records.reading() as session:
            return load_flow(session, row.flow_uuid), moves.get(session, row.uuid)

    def _refuse_hopeless(self, flow: StoredFlow) -> None:
        """Park a job whose worker died *max_attempts* times in a row without having got any further.

        Further is one more step, or more bytes of a copy than ever before.
        """
        attempts = self.claim.posting.attempts
        if attempts <= 1:
            return
        done = sum(state in (states.SUCCESS, states.REVERTED) for state, _ in flow.states.values())
        with self.records.reading() as session:
            copied = moves.copied_bytes(session, self.migration.uuid)
        journal = self.records.journal("claims")
        seen = journal.get(self.host)
        if seen is None or seen.data["done"] != done or copied > seen.data["bytes"]:
            journal.done(self.host, done=done, bytes=copied, attempts=attempts)
        elif attempts - int(seen.data["attempts"]) + 2 > self.timeouts.max_attempts:
            tried = self.timeouts.max_attempts
            raise Park(f"the worker of {self.host} died {tried} times at it without getting any further")

    def _turned_round(self, row: Migration, flow: StoredFlow, decision: Execute | Revert, host: str) -> bool:
        """Make the flow walk back if somebody wishes so, or if the host that it waits for is dead."""
        if isinstance(decision, Revert):
            return False
        if row.cancel_reason is not None:
            reason = f"it was cancelled: {row.cancel_reason}"
        elif host != self.host and self._is_dead(host):
            reason = f"{host} has had no worker for too long"
        else:
            return False
        with self.records.transaction() as session:
            if turning.is_past_return(session, flow, self.migration):
                return False
            turning.turn_round(session, flow, self.migration.uuid, reason)
            if row.cancel_reason is None and row.excluded is not None and host == row.dest_compute:
                moves.save(session, row.uuid, excluded={**row.excluded, host: reason})
            self.records.note(session, "turned-round", reason)
        LOG.warning("%s: walks back: %s", self.migration.name, reason)
        return True

    def _owed(self, row: Migration, flow: StoredFlow, decision: Execute | Revert, host: str) -> bool:
        """Leave the undo of a dead host's step to itself; that of the keeper's only if an operator says so."""
        if isinstance(decision, Execute) or host == self.host:
            return False
        given_up = row.down_host == host
        if not given_up and (host == turning.keeper(row) or not self._is_dead(host)):
            return False
        step = decision.step
        if step.undone_anywhere:
            with self._turn.undoing(step.name):
                debts.undo(self, flow, step.name)
        with self.records.transaction() as session:
            debts.put_down(session, flow, step)
            if not step.undone_anywhere:
                debts.owe(session, self.migration.uuid, flow, host, step)
                self.records.note(session, "owed", f"{host} is away and undoes {step.name} when it is back")
        return True

    def _run_engine(self, row: Migration, flow: StoredFlow, decision: Execute | Revert) -> None:
        """Let TaskFlow carry out steps until the next one is another host's, or the flow ends."""
        detail = flow.detail()
        engine = LegEngine(flow.made(), detail, LegBackend(self.records, detail))
        engine.compile()
        engine.storage.inject({"leg": self}, transient=True)
        boundary = Boundary(engine, flow, row, self.host, self.tether)
        for state in (states.SUCCESS, states.REVERTED):
            engine.atom_notifier.register(state, boundary.passed)
        for watch in (self._meter.stopwatch(row.flow_name), self._turn.passed):
            engine.atom_notifier.register(Notifier.ANY, watch)
            if flow.states[decision.step.name][0] == _BEGUN[type(decision)]:  # TaskFlow says no state twice
                watch(_BEGUN[type(decision)], {"task_name": decision.step.name})
        try:
            engine.run()
        except Exception as error:  # noqa: BLE001 - whatever a step raised; Interrupted passes
            # The engine raises what its steps raised: that is in the records, where the next decision finds it.
            LOG.debug("%s: the engine stopped: %s", self.migration.name, error)
            self._engine_error = str(error)

    # -- its ends -----------------------------------------------------------------------------------------

    def _hand_over(self, host: str, decision: Execute | Revert) -> End:
        verb = "goes on" if isinstance(decision, Execute) else "walks back"
        LOG.info("%s: %s with %s", self.migration.name, f"{host} {verb}", decision.step.name)
        self.board.hand_over(self.claim, host)
        self._turn.baton(host)
        return End.HANDED_OVER

    def _end(self, row: Migration, flow: StoredFlow, decision: Stuck | Finished) -> End:
        if isinstance(decision, Stuck):
            undo = flow.atoms[decision.step.name].revert_failure or {}
            command = and_then(kept_hint(undo), f"hostler migration retry {row.uuid}")
            return self._park(decision.step.name, _cause(flow, decision.step.name), [command])
        return self._finish(row, flow, decision)

    def _finish(self, row: Migration, flow: StoredFlow, decision: Finished) -> End:
        next_try = self._next_try(row, flow) if decision.reverted else None
        with self.records.transaction() as session:
            if decision.reverted:
                outcome = closing.reverted(session, self.records, row, flow, next_try)
            else:
                outcome = closing.carried_out(session, row)
            debts.forget_if_over(session, row.uuid)
            self.records.note(session, "finished", f"{row.flow_name}: {outcome}")
        self._meter.migration_ended(row.flow_name, outcome)
        self._turn.flow_ended(self.migration, outcome, flow.row.created_at)
        self.board.consume(self.claim)
        if self.tether.interrupted:
            self.board.forget_wish(row.uuid)
        if decision.reverted:
            rescheduling.post_successor(self.database, self.board, row.uuid)
        LOG.info("%s: %s ended: %s", self.migration.name, row.flow_name, outcome)
        return End.FINISHED

    def _next_try(self, row: Migration, flow: StoredFlow) -> NextTry | None:
        """Return which host is tried next; what it has left is seen by its claim, in a transaction of its own."""
        if self._scheduler is None or row.excluded is None:
            return None
        alive = self.board.alive()
        with self.records.reading() as session:
            return rescheduling.plan(self._scheduler, session, row, flow, alive)

    def _park(self, step: str | None, reason: str, commands: list[str]) -> End:
        uuid = self.claim.posting.migration
        commands = commands or [f"hostler migration retry {uuid}", f"hostler migration show {uuid}"]
        with self.records.transaction() as session:
            moves.save(session, uuid, phase="parked", outcome="parked", error=reason, hint=commands[0])
            self.records.note(session, "parked", reason)
        self._meter.migration_ended(self.claim.posting.flow, "parked")
        self.board.park(self.claim, {"step": step, "reason": reason, "commands": commands, "host": self.host})
        LOG.error("migration %s was parked: %s; try: %s", uuid, reason, commands[0])
        return End.PARKED


def _turn(claim: Claim) -> TurnFacts:
    posting = claim.posting
    return TurnFacts(
        migration=posting.migration,
        flow=posting.flow,
        flow_uuid=posting.flow_uuid,
        instance=posting.instance,
        host=claim.host,
        epoch=posting.epoch,
        attempt=posting.attempts,
    )


def _is_of(posting: Posting, row: Migration) -> bool:
    """Tell whether a job is of a migration's present flow, and of its server."""
    return (posting.flow_uuid, posting.instance) == (row.flow_uuid, row.instance_uuid)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _cause(flow: StoredFlow, step: str) -> str:
    """Return what made a step's undo fail, and what had made the flow turn round."""
    undo = flow.atoms[step].revert_failure or {}
    first = flow.failure()
    text = f"the undo of {step} failed: {undo.get('exception_str', 'no reason is on record')}"
    return f"{text}; it was undone because: {first['exception_str']}" if first.get("exception_str") else text
