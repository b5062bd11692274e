"""Keeping the records in step with the domains of this host, whoever changes them.

A record is touched only while it belongs to this host and to nobody else: no step is at work on the server,
and no migration of it is open. Each write says so itself, as its condition, so that a migration which begins
meanwhile wins.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import CursorResult, Executable, delete, exists, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from hostler.drivers.hypervisor import Hypervisor
from hostler.errors import InstanceNotFound, ServerUnreachable
from hostler.objects import Domain, DomainSummary, PowerState
from hostler.records import hosts, instances
from hostler.records.database import Database
from hostler.records.models import DEFAULT_PROJECT, Binding, Instance, Migration

LOG = logging.getLogger(__name__)

#: vm_states that follow the power state; all others were set by somebody who meant it.
FOLLOWS_POWER = ("active", "stopped")
#: A migration that works on its server; a dry run only reads.
UNDER_WAY = (Migration.phase.in_(instances.UNDER_WAY), Migration.migration_type != "dry-run")
#: Returns what the images of a server may take in all, in bytes.
DiskBytes = Callable[[str], int]


class Adoption:
    """The records of the servers that this host's hypervisor has.

    *disk_bytes*: asked for each domain; without it that field of a record is left as it is.
    """

    def __init__(
        self, database: Database, hypervisor: Hypervisor, host: str, disk_bytes: DiskBytes | None = None
    ) -> None:
        self._database = database
        self._hypervisor = hypervisor
        self._host = host
        self._disk_bytes = disk_bytes
        self._lock = threading.Lock()  #: held from looking at the hypervisor until its state is written
        self._dirty_lock = threading.Lock()
        self._dirty: set[str] = set()
        self._told: set[str] = set()

    def run(self) -> None:
        """Compare everything: domains without a record, records without a domain, and what has changed.

        :class:`~hostler.errors.ServerUnreachable` if the hypervisor or the database is away.
        """
        with self._lock:
            domains = {domain.uuid: domain for domain in self._hypervisor.list_domains()}
            with self._database.reading() as session:
                hosts.get(session, self._host)
                recorded = session.scalars(select(Instance.uuid).where(Instance.host == self._host)).all()
            self._take_dirty()
            self._follow_all({**dict.fromkeys(recorded), **domains})

    def domain_changed(self, uuid: str) -> None:
        """Look again at one domain, and at those that could not be written before; it never raises.

        An empty *uuid* means that any may have changed.
        """
        try:
            if not uuid:
                self.run()
                return
            with self._dirty_lock:
                self._dirty.add(uuid)
            with self._lock:
                self._follow_all(dict.fromkeys(self._take_dirty()))
        except ServerUnreachable as error:
            LOG.warning("%s; the records are brought up to date later", error)
        except Exception:
            LOG.exception("a change of server %s was not understood", uuid or "(any)")

    def _take_dirty(self) -> set[str]:
        with self._dirty_lock:
            taken, self._dirty = self._dirty, set()
            return taken

    def _follow_all(self, looked_at: dict[str, DomainSummary | None]) -> None:
        """Bring these records up to date; those that cannot be are kept for the next time."""
        left = set(looked_at)
        try:
            for uuid, seen in looked_at.items():
                if self._follow(uuid, seen):
                    left.discard(uuid)
        finally:
            with self._dirty_lock:
                self._dirty |= left

    def _follow(self, uuid: str, seen: DomainSummary | None) -> bool:
        """Bring one record up to date; tell whether it is. One that is damaged holds up no other."""
        try:
            domain = seen or self._describe(uuid)
            return self._compare(domain) if domain else self._domain_is_gone(uuid)
        except ServerUnreachable:
            raise
        except Exception:
            LOG.exception("the record of server %s cannot be brought up to date", uuid)
            return False

    def _describe(self, uuid: str) -> Domain | None:
        try:
            return self._hypervisor.describe(uuid)
        except InstanceNotFound:
            return None

    def _compare(self, domain: DomainSummary | Domain) -> bool:
        with self._database.reading() as session:
            if _under_way(session, domain):
                return False
            row = session.get(Instance, domain.uuid)
            unconfirmed = instances.unconfirmed_migration(session, domain.uuid) is not None
        if row is None:
            return self._adopt(domain)
        if row.host != self._host:
            self._tell_of_two(row)
            return True
        self._told.discard(row.uuid)
        changes = self._changes(row, domain, unconfirmed or row.vm_state == "resized")
        return not changes or self._write(row, changes)

    def _changes(self, row: Instance, domain: DomainSummary | Domain, power_only: bool) -> dict[str, Any]:
        """Return what of *row* is not as *domain* is."""
        facts: dict[str, Any] = {"power_state": str(domain.power_state)}
        if not power_only:
            facts |= {"name": domain.name, "vcpus": domain.vcpus, "memory_mb": domain.memory_mb}
            facts["requirements"] = domain.requirements.to_dict()
            facts |= self._disk_facts(domain.uuid)
            if row.vm_state in FOLLOWS_POWER:
                facts["vm_state"] = instances.vm_state_of(domain.power_state)
        return {field: value for field, value in facts.items() if getattr(row, field) != value}

    def _disk_facts(self, uuid: str) -> dict[str, int]:
        return {"disk_bytes": self._disk_bytes(uuid)} if self._disk_bytes else {}

    def _write(self, row: Instance, changes: dict[str, Any]) -> bool:
        with self._database.transaction() as session:
            mine = self._mine(row.uuid, whatever_waits=set(changes) == {"power_state"})
            written = instances.change(session, *mine, Instance.vm_state == row.vm_state, **changes)
        if written:
            told = ", ".join(f"{field} {getattr(row, field)} -> {value}" for field, value in changes.items())
            LOG.info("server %s changed: %s", row.name, told)
        return written

    def _adopt(self, domain: DomainSummary | Domain) -> bool:
        row = Instance(
            uuid=domain.uuid,
            name=domain.name,
            host=self._host,
            vm_state=instances.vm_state_of(domain.power_state),
            power_state=str(domain.power_state),
            vcpus=domain.vcpus,
            memory_mb=domain.memory_mb,
            project_id=domain.project or DEFAULT_PROJECT,
            requirements=domain.requirements.to_dict(),
            **self._disk_facts(domain.uuid),
        )
        try:
            with self._database.transaction() as session:
                session.add(row)
        except IntegrityError:  # somebody recorded it meanwhile
            return False
        LOG.info("server %s (%s) is recorded", domain.name, domain.uuid)
        return True

    def _domain_is_gone(self, uuid: str) -> bool:
        """Remove the record of a domain that others undefined; one that waits for its confirmation stays."""
        with self._database.transaction() as session:
            row = session.get(Instance, uuid)
            if row is None or row.host != self._host:
                return True
            if _count(session, delete(Instance).where(*self._mine(uuid), Instance.vm_state != "resized")):
                session.execute(delete(Binding).where(Binding.instance_uuid == uuid))
                LOG.info("server %s (%s) is no longer defined: its record is removed", row.name, uuid)
                return True
            off = update(Instance).where(*self._mine(uuid, whatever_waits=True))
            return bool(_count(session, off.values(power_state=str(PowerState.SHUTDOWN))))

    def _mine(self, uuid: str, whatever_waits: bool = False) -> list[ColumnElement[bool]]:
        """Return the conditions under which adoption may write; *whatever_waits*: also if unconfirmed."""
        of_it = Migration.instance_uuid == Instance.uuid
        taken = [exists().where(of_it, *UNDER_WAY)]
        if not whatever_waits:
            taken.append(exists().where(of_it, instances.UNCONFIRMED))
        return [
            Instance.uuid == uuid,
            Instance.host == self._host,
            Instance.task_state.is_(None),
            *(~one for one in taken),
        ]

    def _tell_of_two(self, row: Instance) -> None:
        if row.uuid not in self._told:
            self._told.add(row.uuid)
            text = (
                "two hosts define server %s (%s): the records have it on %s, %s has it, too: hostler doctor"
            )
            LOG.warning(text, row.name, row.uuid, row.host, self._host)


def _under_way(session: Session, domain: DomainSummary | Domain) -> bool:
    """Tell whether a migration works on the domain, or made it."""
    named = or_(Migration.instance_uuid == domain.uuid, Migration.uuid == (domain.migration or ""))
    return bool(session.scalar(select(exists().where(named, *UNDER_WAY))))


def _count(session: Session, statement: Executable) -> int:
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount
