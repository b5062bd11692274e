"""What a dead host owes: the undo of its steps, done by itself before it takes any job when it is back.

A migration must not wait for a host that may never return. Its other host walks back without it: what lies in
the records alone it undoes itself; each other step of the dead host is put down as undone, and as a debt.
Whatever the dead host still does is refused by the fence; what it has done is on its own disk and in its own
libvirt, marked with the migration's uuid, and goes when the debt is paid.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session
from taskflow import states

from hostler.errors import FlowUnreadable, HostlerError, Interrupted, ServerUnreachable, Unreachable
from hostler.flows.shape import Step
from hostler.jobboard import lock
from hostler.jobboard.details import StoredFlow, load_flow
from hostler.records import fence, moves
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.models import AtomRow, Debt, Migration, now
from hostler.tasks.base import Drivers, HostTask, Leg, MigrationFacts, Timeouts
from hostler.tracing.tracer import Tracer, TurnFacts, Untraced

LOG = logging.getLogger(__name__)


@dataclass
class DebtLeg:
    """What a step sees as its leg when its host undoes it late: it waits for nothing and nobody."""

    host: str
    migration: MigrationFacts
    records: FencedRecords
    drivers: Drivers
    timeouts: Timeouts
    state_path: str
    lock: int | None = None

    def checkpoint(self) -> None:
        """Nothing holds it back."""

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def cancellable(self) -> AbstractContextManager[None]:
        """An undo is not cancelled."""
        return nullcontext()


def put_down(session: Session, flow: StoredFlow, step: Step) -> None:
    """Put *step* down as undone."""
    session.execute(
        update(AtomRow)
        .where(AtomRow.uuid == flow.atoms[step.name].uuid)
        .values(state=states.REVERTED, intention=states.REVERT, revert_finished_at=now())
    )


def owe(session: Session, migration: str, flow: StoredFlow, host: str, step: Step) -> None:
    """Put the undo of *step* down as *host*'s debt."""
    order = session.scalar(select(func.count()).where(Debt.migration_uuid == migration)) or 0
    session.execute(
        insert(Debt).values(
            host=host,
            migration_uuid=migration,
            flow_uuid=flow.row.uuid,
            task=step.name,
            position=order,
            created_at=now(),
        )
    )


def undo(leg: Leg, flow: StoredFlow, name: str) -> None:
    """Undo a step outside TaskFlow's engine, with what the engine would give it."""
    step = next((task for task in flow.made() if task.name == name), None)
    if step is None:
        raise FlowUnreadable(flow=flow.row.uuid, reason=f"{flow.row.name} has no step {name}")
    step.revert(leg=leg, **_arguments(step, flow))


def owed_by(session: Session, host: str) -> list[Debt]:
    """Return a host's debts in the order in which they are to be paid."""
    return list(
        session.scalars(
            select(Debt)
            .where(Debt.host == host)
            .order_by(Debt.created_at, Debt.migration_uuid, Debt.position)
        )
    )


def are_owed(session: Session, migration: str) -> bool:
    """Tell whether any host still owes an undo of the migration."""
    return session.scalar(select(Debt.task).where(Debt.migration_uuid == migration).limit(1)) is not None


def forget_if_over(session: Session, migration: str) -> None:
    """Remove what was written ahead once nobody asks for it any more.

    Until a migration is confirmed its way back may still be asked for, however often a confirmation has failed; and a
    host that was away may still owe an undo.
    """
    row = moves.get(session, migration)
    unconfirmed = row.status in ("finished", "confirming")
    if row.phase == "closed" and not unconfirmed and not are_owed(session, migration):
        fence.forget(session, migration)


@dataclass(frozen=True)
class Payer:
    """Undoes what *host* owes."""

    database: Database
    host: str
    drivers: Drivers
    timeouts: Timeouts
    state_path: str
    run_path: str
    tracer: Tracer = field(default_factory=Untraced)

    def pay(self) -> set[str]:
        """Undo what is owed; return the migrations of which something still is.

        One that cannot be paid holds up no other. While a leg of this host is still at work on the server, be it one
        that has lost its claim, its debts wait: what such a leg still does would come after its undo.
        """
        with self.database.reading() as session:
            debts = owed_by(session, self.host)
        owing: set[str] = set()
        for debt in debts:
            if debt.migration_uuid not in owing and not self._paid(debt):
                owing.add(debt.migration_uuid)
        return owing

    def _paid(self, debt: Debt) -> bool:
        try:
            self._pay(debt)
        except ServerUnreachable:
            raise
        except Unreachable as error:
            raise ServerUnreachable(str(error)) from error
        except (Exception, Interrupted) as error:
            if not isinstance(error, (HostlerError, Interrupted)):
                LOG.exception("the record of a debt, or of its migration, is damaged")
            text = "%s owes the undo of %s of migration %s: %s"
            LOG.error(text, self.host, debt.task, debt.migration_uuid, error)
            return False
        return True

    def _pay(self, debt: Debt) -> None:
        with self.database.reading() as session:
            instance = moves.get(session, debt.migration_uuid).instance_uuid
        with lock.held(self.run_path, f"instance-{instance}"):
            self._pay_one(debt)

    def _pay_one(self, debt: Debt) -> None:
        with self.database.reading() as session:
            migration = moves.get(session, debt.migration_uuid)
            flow = load_flow(session, debt.flow_uuid)
            epoch = fence.current_epoch(session, debt.migration_uuid)
        LOG.info("%s: %s was away and undoes %s now", migration.instance_name, debt.host, debt.task)
        records = FencedRecords(self.database, migration.uuid, epoch, debt.host)
        facts = MigrationFacts.of(migration)
        leg = DebtLeg(debt.host, facts, records, self.drivers, self.timeouts, self.state_path)
        with self.tracer.owed(_facts(debt, migration, flow, epoch), debt.task):
            undo(leg, flow, debt.task)
        with records.transaction() as session:
            session.execute(
                delete(Debt).where(
                    Debt.host == debt.host,
                    Debt.migration_uuid == debt.migration_uuid,
                    Debt.task == debt.task,
                )
            )
            records.note(session, "paid", f"{debt.host} was away and has undone {debt.task}")
            forget_if_over(session, migration.uuid)


def _facts(debt: Debt, migration: Migration, flow: StoredFlow, epoch: int) -> TurnFacts:
    return TurnFacts(
        migration=migration.uuid,
        flow=flow.row.name,
        flow_uuid=debt.flow_uuid,
        instance=migration.instance_uuid,
        host=debt.host,
        epoch=epoch,
        attempt=1,
    )


def _arguments(step: HostTask, flow: StoredFlow) -> dict[str, Any]:
    """Return what the step's undo asks for, as TaskFlow would give it."""
    symbols = flow.symbols()
    wanted = {name: symbols.get(symbol) for name, symbol in step.revert_rebind.items() if name != "leg"}
    return wanted | {"result": flow.result(step.name), "flow_failures": {}}
