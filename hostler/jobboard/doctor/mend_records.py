"""Mending the records: each in one transaction that looks again first."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from hostler.errors import MigrationError
from hostler.jobboard.doctor.findings import Finding
from hostler.jobboard.doctor.recorded import Standing, standing_of
from hostler.records import fence, instances, quotas
from hostler.records.database import Database
from hostler.records.models import Binding, Claim, Debt, Host, Instance, Migration, Receiver


def mends(finding: Finding) -> bool:
    """Tell whether the finding is about the records."""
    return finding.kind in _MENDERS


def mend(database: Database, finding: Finding) -> None:
    """Do it; raises what keeps it from being done."""
    with database.transaction() as session:
        _MENDERS[finding.kind](session, finding)


def _refuse(session: Session, finding: Finding, *needed: Standing) -> None:
    standing = standing_of(session, finding.migration, hold=True)
    if standing in needed:
        raise MigrationError(f"migration {finding.migration} is {standing}")


def _drop_claim(session: Session, finding: Finding) -> None:
    _refuse(session, finding, Standing.UNDER_WAY)
    row = session.get(Migration, finding.migration)
    if row is not None and row.source_compute == finding.host:
        _refuse(session, finding, Standing.UNCONFIRMED)
    of_host = update(Host).where(Host.name == finding.host)
    session.execute(of_host.values(claims_generation=Host.claims_generation + 1))
    session.execute(
        delete(Claim).where(Claim.migration_uuid == finding.migration, Claim.host == finding.host)
    )


def _drop_reservation(session: Session, finding: Finding) -> None:
    _refuse(session, finding, Standing.UNDER_WAY, Standing.UNCONFIRMED)
    quotas.roll_back(session, finding.migration)


def _settle_bindings(session: Session, finding: Finding) -> None:
    """Leave each port bound where its server is, and to no migration."""
    _refuse_busy(session, finding)
    server = session.get(Instance, finding.instance)
    of_server = Binding.instance_uuid == finding.instance
    session.execute(delete(Binding).where(of_server, Binding.host != (server.host if server else "")))
    session.execute(update(Binding).where(of_server).values(active=True, migration_uuid=None))


def _drop_receiver(session: Session, finding: Finding) -> None:
    _refuse(session, finding, Standing.UNDER_WAY)
    session.execute(delete(Receiver).where(Receiver.migration_uuid == finding.migration))


def _forget_journal(session: Session, finding: Finding) -> None:
    _refuse(session, finding, Standing.UNDER_WAY, Standing.UNCONFIRMED)
    fence.forget(session, finding.migration)


def _clear_task_state(session: Session, finding: Finding) -> None:
    _refuse_busy(session, finding, unconfirmed_too=False)
    instances.change(
        session, Instance.uuid == finding.instance, _nobody_at_work(), mending=True, task_state=None
    )


def _refuse_busy(session: Session, finding: Finding, *, unconfirmed_too: bool = True) -> None:
    other = instances.migration_under_way(session, finding.instance)
    if other is None and unconfirmed_too:
        other = instances.unconfirmed_migration(session, finding.instance)
    if other is None:
        of_server = select(Migration).join(Debt, Debt.migration_uuid == Migration.uuid)
        other = session.scalar(of_server.where(Migration.instance_uuid == finding.instance).limit(1))
    if other is not None:
        raise MigrationError(f"the server's migration {other.uuid} needs it")


def _nobody_at_work() -> ColumnElement[bool]:
    under_way = Migration.phase.in_(instances.UNDER_WAY) & (Migration.migration_type != "dry-run")
    return ~exists().where(Migration.instance_uuid == Instance.uuid, under_way)


_MENDERS: dict[str, Callable[[Session, Finding], None]] = {
    "claim": _drop_claim,
    "reservation": _drop_reservation,
    "binding": _settle_bindings,
    "receiver-record": _drop_receiver,
    "journal": _forget_journal,
    "task-state": _clear_task_state,
}
