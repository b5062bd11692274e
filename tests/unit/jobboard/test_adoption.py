"""Adoption: what others do to a host's domains gets into the records, and migrations are left alone."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from hostler.errors import InstanceNotFound, ServerUnreachable
from hostler.jobboard.adoption import Adoption
from hostler.objects import Domain, DomainSummary, PowerState, Requirements
from hostler.records import quotas
from hostler.records.database import Database
from hostler.records.models import Binding, Instance
from tests.records_made import make_host, make_instance, make_migration

WEB1 = "11111111-1111-4111-8111-111111111111"
WEB2 = "22222222-2222-4222-8222-222222222222"


class StubHypervisor:
    """The domains of a host, as adoption asks for them."""

    def __init__(self) -> None:
        self.domains: dict[str, DomainSummary] = {}
        self.away = False
        self.broken: set[str] = set()
        self.on_describe: Callable[[], None] = lambda: None

    def has(
        self, uuid: str, name: str = "web1", state: PowerState = PowerState.SHUTDOWN, **facts: Any
    ) -> None:
        summary = DomainSummary(uuid, name, state, vcpus=2, memory_mb=2048, persistent=True)
        self.domains[uuid] = dataclasses.replace(summary, **facts)

    def list_domains(self) -> list[DomainSummary]:
        self._answer()
        return list(self.domains.values())

    def describe(self, uuid: str) -> Domain:
        self._answer()
        self.on_describe()
        if uuid in self.broken:
            raise ValueError("this definition makes no sense")
        if uuid not in self.domains:
            raise InstanceNotFound(name=uuid)
        kept = ("power_state", "requirements")
        facts = self.domains[uuid].to_dict() | {name: getattr(self.domains[uuid], name) for name in kept}
        more = {"xml": "", "autostart": False, "machine": "pc", "arch": "x86_64", "virt_type": "kvm"}
        return Domain(**facts, **more, emulator=None)

    def _answer(self) -> None:
        if self.away:
            raise ServerUnreachable(what="libvirt", where="qemu:///system", reason="it is away")


@pytest.fixture
def hypervisor() -> StubHypervisor:
    return StubHypervisor()


@pytest.fixture
def adoption(database: Database, hypervisor: StubHypervisor) -> Adoption:
    with database.transaction() as session:
        make_host(session, "kvm1")
        make_host(session, "kvm2")
    return Adoption(database, hypervisor, "kvm1")  # type: ignore[arg-type]


def record(database: Database, uuid: str = WEB1) -> Instance | None:
    with database.reading() as session:
        return session.get(Instance, uuid)


def facts(database: Database, uuid: str = WEB1) -> tuple[str, str, str, str] | None:
    row = record(database, uuid)
    return (row.name, row.host, row.vm_state, row.power_state) if row else None


def test_a_server_belongs_to_the_project_that_its_definition_names(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    hypervisor.has(WEB1, project="red")
    hypervisor.has(WEB2, "web2")
    adoption.run()
    assert [row.project_id for uuid in (WEB1, WEB2) if (row := record(database, uuid))] == ["red", "default"]
    with database.transaction() as session:
        quotas.move_server(session, WEB1, "blue")
    adoption.run()
    assert (row := record(database, WEB1)) and row.project_id == "blue", "an operator's word stays"


def make(database: Database, **changes: Any) -> None:
    with database.transaction() as session:
        make_instance(session, **({"uuid": WEB1, "vcpus": 2, "memory_mb": 2048} | changes))


def migrate(database: Database, **changes: Any) -> str:
    with database.transaction() as session:
        return make_migration(session, WEB1, **changes)


# -- what others do ---------------------------------------------------------------------------------------


def test_a_host_that_runs_servers_already_has_them_recorded(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    hypervisor.has(WEB1, state=PowerState.RUNNING)
    hypervisor.has(WEB2, name="böse; -- name", persistent=False, state=PowerState.PAUSED)
    adoption.run()
    assert facts(database, WEB1) == ("web1", "kvm1", "active", "running")
    assert facts(database, WEB2) == ("böse; -- name", "kvm1", "active", "paused")
    row = record(database)
    assert row is not None
    assert (row.vcpus, row.memory_mb, row.disk_bytes) == (2, 2048, 0)


def test_a_second_look_writes_nothing(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    hypervisor.has(WEB1)
    adoption.run()
    before = record(database)
    adoption.run()
    adoption.domain_changed(WEB1)
    after = record(database)
    assert before is not None
    assert after is not None
    assert after.updated_at == before.updated_at


@pytest.mark.parametrize(
    ("state", "vm_state"),
    [
        (PowerState.RUNNING, "active"),
        (PowerState.PAUSED, "active"),
        (PowerState.SUSPENDED, "active"),
        (PowerState.SHUTDOWN, "stopped"),
        (PowerState.CRASHED, "stopped"),
    ],
)
def test_a_server_that_others_start_and_stop_is_followed(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor, state: PowerState, vm_state: str
) -> None:
    hypervisor.has(WEB1)
    adoption.domain_changed(WEB1)
    hypervisor.has(WEB1, state=state)
    adoption.domain_changed(WEB1)
    assert facts(database) == ("web1", "kvm1", vm_state, str(state))


def test_a_server_that_others_rename_and_enlarge_is_followed(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database, disk_bytes=7)
    wanted = Requirements("x86_64", "kvm", "pc-q35-7.2", sources=["bridge:br7"])
    hypervisor.has(WEB1, name="shop", vcpus=4, memory_mb=4096, requirements=wanted)
    adoption.domain_changed(WEB1)
    row = record(database)
    assert row is not None
    assert Requirements.from_dict(row.requirements) == wanted
    assert (row.name, row.vcpus, row.memory_mb, row.disk_bytes) == ("shop", 4, 4096, 7)


def test_a_server_that_others_undefine_is_forgotten(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database)
    with database.transaction() as session:
        session.add(Binding(instance_uuid=WEB1, port="m", host="kvm1", active=True, network="bridge:br0"))
    adoption.domain_changed(WEB1)
    assert record(database) is None
    with database.reading() as session:
        assert session.query(Binding).all() == []


def test_servers_that_went_while_the_worker_was_away_are_forgotten(
    database: Database, adoption: Adoption
) -> None:
    make(database)
    adoption.run()
    assert record(database) is None


def test_an_event_that_names_nobody_means_all(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    hypervisor.has(WEB1)
    adoption.domain_changed("")
    assert record(database) is not None


def test_disks_are_summed_where_somebody_can(database: Database, hypervisor: StubHypervisor) -> None:
    with database.transaction() as session:
        make_host(session, "kvm1")
    sizes = {WEB1: 5 << 30}
    adoption = Adoption(database, hypervisor, "kvm1", sizes.__getitem__)  # type: ignore[arg-type]
    hypervisor.has(WEB1)
    adoption.run()
    sizes[WEB1] = 6 << 30
    adoption.run()
    row = record(database)
    assert row is not None
    assert row.disk_bytes == 6 << 30


def test_a_state_that_somebody_set_is_kept(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database, vm_state="error")
    hypervisor.has(WEB1, state=PowerState.RUNNING)
    adoption.run()
    assert facts(database) == ("web1", "kvm1", "error", "running")


# -- what belongs to a migration --------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["posting", "open", "parked"])
@pytest.mark.parametrize("present", [True, False])
def test_a_migration_under_way_keeps_its_server(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor, phase: str, present: bool
) -> None:
    make(database, vm_state="active", power_state="running")
    migrate(database, phase=phase)
    if present:
        hypervisor.has(WEB1, name="renamed")
    adoption.run()
    adoption.domain_changed(WEB1)
    assert facts(database) == ("web1", "kvm1", "active", "running")


def test_what_happened_during_a_migration_is_written_after_it(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database)
    migration = migrate(database)
    hypervisor.has(WEB1, state=PowerState.RUNNING)
    adoption.domain_changed(WEB1)
    with database.transaction() as session:
        session.execute(text("UPDATE migrations SET phase = 'closed', status = 'reverted'"))
    hypervisor.has(WEB2, name="another")
    adoption.domain_changed(WEB2)
    assert migration
    assert facts(database) == ("web1", "kvm1", "active", "running")


def test_a_dry_run_holds_nobody_up(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database)
    migrate(database, migration_type="dry-run")
    hypervisor.has(WEB1, state=PowerState.RUNNING)
    adoption.run()
    assert facts(database) == ("web1", "kvm1", "active", "running")


def test_a_task_state_keeps_its_server(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database, task_state="resize_prep")
    hypervisor.has(WEB1, state=PowerState.RUNNING)
    adoption.run()
    assert facts(database) == ("web1", "kvm1", "stopped", "shutdown")
    del hypervisor.domains[WEB1]
    adoption.domain_changed(WEB1)
    assert facts(database) == ("web1", "kvm1", "stopped", "shutdown")


@pytest.mark.parametrize("status", ["finished", "confirming"])
def test_an_unconfirmed_server_changes_its_power_state_only(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor, status: str
) -> None:
    make(database, vm_state="resized", power_state="running")
    migrate(database, phase="closed", status=status)
    hypervisor.has(WEB1, name="renamed", vcpus=64, state=PowerState.SHUTDOWN)
    adoption.run()
    assert facts(database) == ("web1", "kvm1", "resized", "shutdown")
    row = record(database)
    assert row is not None
    assert row.vcpus == 2


def test_an_unconfirmed_server_that_others_undefine_stays_recorded(
    database: Database, adoption: Adoption
) -> None:
    make(database, vm_state="resized", power_state="running")
    migrate(database, phase="closed", status="finished")
    adoption.run()
    assert facts(database) == ("web1", "kvm1", "resized", "shutdown")


def test_a_confirmed_server_is_an_ordinary_one(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database)
    migration = migrate(database, phase="closed", status="confirmed")
    hypervisor.has(WEB1, state=PowerState.RUNNING, migration=migration)
    adoption.run()
    assert facts(database) == ("web1", "kvm1", "active", "running")
    del hypervisor.domains[WEB1]
    adoption.domain_changed(WEB1)
    assert record(database) is None


def test_what_a_migration_under_way_made_is_not_adopted(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    migration = migrate(database)
    hypervisor.has(WEB2, migration=migration)
    adoption.run()
    assert record(database, WEB2) is None


def test_a_migration_that_begins_meanwhile_wins(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(database)
    hypervisor.has(WEB1, state=PowerState.RUNNING)
    write = Adoption._write

    def late(self: Adoption, row: Instance, changes: dict[str, Any]) -> bool:
        migrate(database, phase="posting")
        return write(self, row, changes)

    monkeypatch.setattr(Adoption, "_write", late)
    adoption.run()
    assert facts(database) == ("web1", "kvm1", "stopped", "shutdown")


# -- two hosts --------------------------------------------------------------------------------------------


def test_a_server_of_another_host_is_not_taken_over(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor, caplog: pytest.LogCaptureFixture
) -> None:
    make(database, host="kvm2")
    hypervisor.has(WEB1, state=PowerState.RUNNING)
    adoption.run()
    adoption.domain_changed(WEB1)
    assert facts(database) == ("web1", "kvm2", "stopped", "shutdown")
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "two hosts define server web1" in warnings[0]
    assert "hostler doctor" in warnings[0]


def test_a_domain_undefined_here_is_not_forgotten_there(database: Database, adoption: Adoption) -> None:
    make(database, host="kvm2")
    adoption.domain_changed(WEB1)
    adoption.run()
    assert facts(database) == ("web1", "kvm2", "stopped", "shutdown")


def test_a_destination_does_not_complain_of_a_server_on_its_way(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor, caplog: pytest.LogCaptureFixture
) -> None:
    make(database, host="kvm2")
    migration = migrate(database, source_compute="kvm2", dest_compute="kvm1")
    hypervisor.has(WEB1, state=PowerState.PAUSED, migration=migration)
    adoption.run()
    assert caplog.records == []


# -- what goes wrong --------------------------------------------------------------------------------------


def test_an_event_while_the_database_is_away_is_written_with_the_next_one(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hypervisor.has(WEB1)

    def away() -> Any:
        raise ServerUnreachable(what="the database", where="x", reason="it is away")

    with monkeypatch.context() as patch:
        patch.setattr(database, "reading", away)
        patch.setattr(database, "transaction", away)
        adoption.domain_changed(WEB1)
    assert record(database) is None
    hypervisor.has(WEB2, name="web2")
    adoption.domain_changed(WEB2)
    assert record(database) is not None
    assert record(database, WEB2) is not None


def test_a_hypervisor_that_is_away_forgets_no_server(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database)
    hypervisor.away = True
    adoption.domain_changed(WEB1)
    adoption.domain_changed("")
    with pytest.raises(ServerUnreachable):
        adoption.run()
    assert record(database) is not None


def test_one_server_that_cannot_be_read_holds_up_no_other(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    make(database, uuid=WEB2, name="web2")
    hypervisor.broken = {WEB2}
    hypervisor.has(WEB1)
    adoption.domain_changed(WEB2)
    adoption.run()
    assert record(database, WEB1) is not None
    assert record(database, WEB2) is not None


def test_a_hypervisor_that_talks_nonsense_stops_no_event(
    adoption: Adoption, hypervisor: StubHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense() -> list[DomainSummary]:
        raise ValueError("what?")

    monkeypatch.setattr(hypervisor, "list_domains", nonsense)
    adoption.domain_changed("")


def test_events_and_looks_from_several_threads_end_in_the_last_state(
    database: Database, adoption: Adoption, hypervisor: StubHypervisor
) -> None:
    for state in (PowerState.RUNNING, PowerState.SHUTDOWN) * 5:
        hypervisor.has(WEB1, state=state)
        threads = [threading.Thread(target=adoption.domain_changed, args=(WEB1,)) for _ in range(3)]
        threads.append(threading.Thread(target=adoption.run))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        row = record(database)
        assert row is not None
        assert row.power_state == str(state)
