"""The fake's own levers, which other tests rely on."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.hypervisor.fake import FakeHypervisor, Journal, under
from hostler.objects import PowerState

from .conftest import disk_xml, domain_xml

UUID = str(uuid.uuid4())
MIGRATION = str(uuid.uuid4())


def test_a_failure_is_injected_once_and_every_call_is_on_record() -> None:
    fake = FakeHypervisor()
    fake.fail_next("define", errors.MigrationError("injected"))
    with pytest.raises(errors.MigrationError, match="injected"):
        fake.define(domain_xml("web1", UUID))
    fake.define(domain_xml("web1", UUID))
    assert fake.calls == [("define", UUID), ("define", UUID)]


def test_a_guest_writes_to_its_disk_when_it_executes_and_not_before(tmp_path: Path) -> None:
    disk = under(tmp_path, "/images/web1.img")
    disk.parent.mkdir()
    disk.write_bytes(b"")
    fake = FakeHypervisor("kvm2", root=tmp_path, on_boot=Journal("kvm2", tmp_path))
    fake.create_paused(fake.mark(domain_xml("web1", UUID, disk_xml("/images/web1.img")), MIGRATION))
    assert disk.read_bytes() == b""
    assert UUID not in fake.booted
    fake.resume(UUID)
    assert disk.read_bytes() == b"booted web1 on kvm2\n"
    assert fake.booted[UUID] == 1


def test_a_power_cut_erases_what_is_transient_and_starts_what_has_autostart() -> None:
    fake = FakeHypervisor()
    other, third = str(uuid.uuid4()), str(uuid.uuid4())
    fake.create_paused(fake.mark(domain_xml("web1", UUID), MIGRATION))
    fake.define(domain_xml("web2", other), autostart=True)
    fake.define(domain_xml("web3", third))
    fake.start(third)
    fake.power_cut()
    with pytest.raises(errors.ServerUnreachable):
        fake.exists(UUID)
    fake.power_on()
    assert not fake.exists(UUID)
    assert fake.power_state(other) is PowerState.RUNNING
    assert fake.power_state(third) is PowerState.SHUTDOWN
    assert fake.booted == {other: 1, third: 1}


def test_a_guest_obeys_its_power_button_once_it_listens() -> None:
    fake = FakeHypervisor()
    fake.define(domain_xml("web1", UUID))
    fake.start(UUID)
    fake.lost_presses[UUID] = 1
    fake.shutdown(UUID)
    assert fake.power_state(UUID) is PowerState.RUNNING
    fake.shutdown(UUID)
    assert fake.power_state(UUID) is PowerState.SHUTDOWN
