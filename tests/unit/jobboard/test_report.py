"""What a worker tells of its host, and when it tells it again."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from hostler import conf as settings
from hostler.drivers.hypervisor.fake import FakeHypervisor
from hostler.drivers.images.fake import FakeSender
from hostler.drivers.ports.fake import FakePorts
from hostler.errors import ServerUnreachable
from hostler.jobboard.report import HostReport
from hostler.records import hosts
from hostler.records.database import Database


class Drivers:
    """Those that are asked."""

    def __init__(self) -> None:
        self.hypervisor = FakeHypervisor("kvm1")
        self.ports = FakePorts("kvm1")
        self.sender = FakeSender(network="/nowhere")


@pytest.fixture
def drivers() -> Drivers:
    return Drivers()


@pytest.fixture
def report(database: Database, drivers: Drivers) -> HostReport:
    conf = settings.load(["/dev/null"])
    for option, value in {"host": "kvm1", "my_ip": "192.0.2.1"}.items():
        conf.set_override(option, value)
    made: Any = drivers
    return HostReport(conf, database, made)


def told(database: Database) -> dict[str, Any]:
    with database.reading() as session:
        return hosts.get(session, "kvm1").capabilities or {}


def test_a_host_tells_what_it_can_run_and_connect(
    database: Database, drivers: Drivers, report: HostReport
) -> None:
    drivers.hypervisor.machines = {"pc-q35-7.2"}
    assert report.renew()
    assert told(database)["sources"] == ["bridge:br0", "direct:br0", "network:default"]
    assert [(one["virt_type"], one["machines"]) for one in told(database)["guests"]] == [
        ("kvm", ["pc-q35-7.2"]),
        ("qemu", ["pc-q35-7.2"]),
    ]


def test_a_certificate_that_was_renewed_is_told(
    database: Database, drivers: Drivers, report: HostReport
) -> None:
    report.renew()
    assert told(database)["certificate"] == ""
    drivers.sender.shown = "-----BEGIN CERTIFICATE-----"
    assert report.renew()
    assert told(database)["certificate"] == "-----BEGIN CERTIFICATE-----"


def test_it_is_told_again_only_when_it_has_changed(
    database: Database, drivers: Drivers, report: HostReport
) -> None:
    assert report.renew()
    with mock.patch.object(Database, "transaction", side_effect=AssertionError("nothing is new")):
        assert not report.renew()
    drivers.ports.bridges.add("br7")
    drivers.ports.networks["default"] = False
    assert report.renew()
    assert told(database)["sources"] == ["bridge:br0", "bridge:br7", "direct:br0", "direct:br7"]


def test_what_could_not_be_written_is_told_the_next_time(
    database: Database, drivers: Drivers, report: HostReport
) -> None:
    away = ServerUnreachable(what="the database", where="db", reason="gone")
    with mock.patch.object(Database, "transaction", side_effect=away), pytest.raises(ServerUnreachable):
        report.renew()
    assert report.renew()
    assert told(database)["sources"]


def test_a_report_without_capabilities_leaves_those_on_record(
    database: Database, drivers: Drivers, report: HostReport
) -> None:
    report.renew()
    before = told(database)
    with database.transaction() as session:
        hosts.report(
            session,
            "kvm1",
            address="192.0.2.1",
            resources=drivers.hypervisor.resources(),
            worker_version="0",
            cpu_allocation_ratio=1.0,
            ram_allocation_ratio=1.0,
            disk_allocation_ratio=1.0,
            reserved_host_memory_mb=0,
        )
    assert told(database) == before
