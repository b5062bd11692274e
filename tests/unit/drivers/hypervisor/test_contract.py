"""What every hypervisor promises: the fake one and libvirt alike."""

from __future__ import annotations

import dataclasses
import threading
import uuid

import pytest

from hostler import errors
from hostler.objects import PowerState, Requirements
from tests.support import LONGER_THAN_A_TEST_S

from .conftest import World, disk_xml


def test_an_unknown_domain_is_off_and_cannot_be_started(world: World) -> None:
    assert not world.hypervisor.exists(world.uuid)
    assert world.hypervisor.power_state(world.uuid) is PowerState.SHUTDOWN
    assert world.hypervisor.qemu_pids(world.uuid) == []
    assert not world.hypervisor.busy(world.uuid)
    with pytest.raises(errors.InstanceNotFound):
        world.hypervisor.start(world.uuid)
    with pytest.raises(errors.InstanceNotFound):
        world.hypervisor.describe(world.uuid)
    world.hypervisor.destroy(world.uuid)
    world.hypervisor.undefine(world.uuid)
    world.hypervisor.remove_mark(world.uuid, world.migration)
    assert world.hypervisor.wait_until_off(world.uuid, 0)


def test_what_was_undefined_can_be_defined_again_as_it_was(world: World) -> None:
    metadata = (
        "<metadata><os:libosinfo xmlns:os='http://libosinfo.org/x/1.0'><os:id/></os:libosinfo></metadata>"
    )
    devices = disk_xml(world.image("web1.img"), kind="raw") + "<graphics type='vnc' passwd='secret'/>"
    world.hypervisor.define(world.xml(devices, metadata=metadata), autostart=True)
    before = world.hypervisor.describe(world.uuid)
    assert before.autostart
    assert "secret" in before.xml
    world.hypervisor.undefine(world.uuid)
    assert not world.hypervisor.exists(world.uuid)
    world.hypervisor.define(before.xml, before.snapshots, before.autostart)
    assert world.hypervisor.describe(world.uuid) == before
    world.hypervisor.define(before.xml, before.snapshots, before.autostart)
    assert world.hypervisor.describe(world.uuid) == before


def test_a_domain_is_described_by_its_facts(world: World) -> None:
    path = world.image("web1.img")
    world.hypervisor.define(world.xml(disk_xml(path, kind="raw")))
    domain = world.hypervisor.describe(world.uuid)
    assert (domain.name, domain.uuid, domain.vcpus, domain.memory_mb) == ("web1", world.uuid, 1, 16)
    assert (domain.machine, domain.arch, domain.virt_type) == ("pc-i440fx-7.2", "x86_64", "qemu")
    assert [(disk.target, disk.path, disk.format) for disk in domain.disks] == [("vda", str(path), "raw")]
    assert domain.obstacles == []
    assert domain.persistent
    (summary,) = world.hypervisor.list_domains()
    assert (summary.name, summary.uuid, summary.memory_mb, summary.persistent) == (
        "web1",
        world.uuid,
        16,
        True,
    )


def test_a_guest_that_was_created_paused_is_ours_and_vanishes_with_its_power(world: World) -> None:
    xml = world.xml(mark=world.migration)
    world.hypervisor.create_paused(xml)
    world.hypervisor.create_paused(xml)
    domain = world.hypervisor.describe(world.uuid)
    assert domain.power_state is PowerState.PAUSED
    assert domain.migration == world.migration
    assert not domain.persistent
    assert any("not persistently defined" in sentence for sentence in domain.obstacles)
    assert world.hypervisor.qemu_pids(world.uuid)
    world.hypervisor.destroy(world.uuid)
    assert world.hypervisor.wait_until_off(world.uuid, 10)
    assert not world.hypervisor.exists(world.uuid)
    assert not world.hypervisor.qemu_pids(world.uuid)


def test_a_paused_guest_becomes_persistent_and_runs(world: World) -> None:
    xml = world.xml(mark=world.migration)
    world.hypervisor.create_paused(xml)
    world.hypervisor.define(xml)
    assert world.hypervisor.power_state(world.uuid) is PowerState.PAUSED
    world.hypervisor.resume(world.uuid)
    world.hypervisor.resume(world.uuid)
    assert world.hypervisor.power_state(world.uuid) is PowerState.RUNNING
    world.hypervisor.destroy(world.uuid)
    assert world.hypervisor.describe(world.uuid).persistent
    with pytest.raises(errors.GuestStartError):
        world.hypervisor.resume(world.uuid)


def test_a_domain_of_somebody_else_is_never_taken_over(world: World) -> None:
    world.hypervisor.define(world.xml())
    before = world.hypervisor.describe(world.uuid)
    marked, renamed = world.xml(mark=world.migration), world.xml(name="web2")
    same_name = world.xml(uuid=str(uuid.uuid4()), mark=world.migration)
    for xml in (marked, renamed, same_name):
        with pytest.raises(errors.ForeignObject):
            world.hypervisor.define(xml)
        with pytest.raises(errors.ForeignObject):
            world.hypervisor.create_paused(xml)
    assert world.hypervisor.describe(world.uuid) == before


def test_a_guest_is_not_created_over_one_without_a_mark(world: World) -> None:
    world.hypervisor.define(world.xml())
    with pytest.raises(errors.ForeignObject):
        world.hypervisor.create_paused(world.xml())
    assert world.hypervisor.power_state(world.uuid) is PowerState.SHUTDOWN


def test_a_running_domain_is_not_undefined(world: World) -> None:
    world.hypervisor.define(world.xml())
    world.hypervisor.start(world.uuid)
    world.hypervisor.start(world.uuid)
    with pytest.raises(errors.InstanceIsActive):
        world.hypervisor.undefine(world.uuid)
    domain = world.hypervisor.describe(world.uuid)
    assert domain.persistent
    assert domain.power_state is PowerState.RUNNING


def test_a_guest_without_its_disk_does_not_start_and_leaves_nothing(world: World) -> None:
    xml = world.xml(disk_xml(world.images / "missing.img"), mark=world.migration)
    with pytest.raises(errors.GuestStartError, match="missing"):
        world.hypervisor.create_paused(xml)
    assert not world.hypervisor.exists(world.uuid)
    world.hypervisor.define(xml)
    with pytest.raises(errors.GuestStartError, match="missing"):
        world.hypervisor.start(world.uuid)
    assert world.hypervisor.power_state(world.uuid) is PowerState.SHUTDOWN
    assert not world.hypervisor.qemu_pids(world.uuid)


def test_waiting_for_the_end_is_woken_by_it(world: World) -> None:
    world.hypervisor.define(world.xml())
    world.hypervisor.start(world.uuid)
    assert not world.hypervisor.wait_until_off(world.uuid, 0.2)
    killer = threading.Timer(0.5, world.hypervisor.destroy, [world.uuid])
    killer.start()
    assert world.hypervisor.wait_until_off(world.uuid, LONGER_THAN_A_TEST_S)
    assert not world.hypervisor.qemu_pids(world.uuid)
    killer.join()


def test_a_guest_that_has_no_agent_is_not_taken_for_one_that_hangs(world: World) -> None:
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    for devices in ("", channel):
        assert world.hypervisor.agent_answers(world.uuid, 1) is None
        world.hypervisor.define(world.xml(devices))
        assert world.hypervisor.agent_answers(world.uuid, 1) is None
        world.hypervisor.start(world.uuid)
        assert world.hypervisor.agent_answers(world.uuid, 1) is None
        world.hypervisor.destroy(world.uuid)
        world.hypervisor.undefine(world.uuid)


def test_a_guest_may_ignore_its_power_button(world: World) -> None:
    world.hypervisor.define(world.xml())
    world.hypervisor.shutdown(world.uuid)
    world.hypervisor.start(world.uuid)
    world.hypervisor.shutdown(world.uuid)
    assert not world.hypervisor.wait_until_off(world.uuid, 0.5)
    assert world.hypervisor.power_state(world.uuid) is PowerState.RUNNING


def test_listeners_hear_of_every_change(world: World) -> None:
    heard: list[str] = []
    ready, changed = threading.Event(), threading.Event()

    def listener(domain: str) -> None:
        heard.append(domain)
        ready.set()
        if domain == world.uuid:
            changed.set()

    world.hypervisor.listen(listener)
    assert ready.wait(10)
    assert heard == [""]
    for change in (
        lambda: world.hypervisor.define(world.xml()),
        lambda: world.hypervisor.start(world.uuid),
        lambda: world.hypervisor.destroy(world.uuid),
        lambda: world.hypervisor.undefine(world.uuid),
    ):
        changed.clear()
        change()
        assert changed.wait(10)


def test_autostart_is_set_and_cleared(world: World) -> None:
    world.hypervisor.define(world.xml())
    for enabled in (True, True, False, False):
        world.hypervisor.set_autostart(world.uuid, enabled)
        assert world.hypervisor.describe(world.uuid).autostart is enabled
    with pytest.raises(errors.InstanceNotFound):
        world.hypervisor.set_autostart(world.migration, True)


def test_our_mark_comes_off_a_running_guest_and_no_other_does(world: World) -> None:
    metadata = "<metadata><n:nova xmlns:n='http://openstack.org/x'><n:a/></n:nova></metadata>"
    xml = world.xml(mark=world.migration, metadata=metadata)
    world.hypervisor.create_paused(xml)
    world.hypervisor.define(xml)
    with pytest.raises(errors.ForeignObject):
        world.hypervisor.remove_mark(world.uuid, str(uuid.uuid4()))
    assert world.hypervisor.describe(world.uuid).migration == world.migration
    world.hypervisor.remove_mark(world.uuid, world.migration)
    world.hypervisor.remove_mark(world.uuid, world.migration)
    domain = world.hypervisor.describe(world.uuid)
    assert domain.migration is None
    assert "http://openstack.org/x" in domain.xml
    assert domain.power_state is PowerState.PAUSED


def test_the_destination_says_all_that_is_wrong(world: World) -> None:
    world.hypervisor.define(world.xml())
    domain = world.hypervisor.describe(world.uuid)
    free = dataclasses.replace(domain, uuid=str(uuid.uuid4()), name="web7")
    assert world.hypervisor.destination_problems(free, {}) == []
    (taken,) = world.hypervisor.destination_problems(domain, {})
    assert taken == f"UUID {world.uuid} is taken by domain 'web1'"
    assert world.hypervisor.destination_problems(domain, {}, same_host=True) == []
    (taken,) = world.hypervisor.destination_problems(dataclasses.replace(free, name="web1"), {})
    assert taken == f"name 'web1' is taken by domain {world.uuid}"
    odd = dataclasses.replace(free, machine="pc-i440fx-99.9", firmware=["/no/such/OVMF.fd"])
    problems = "; ".join(world.hypervisor.destination_problems(odd, {}))
    assert "/no/such/OVMF.fd" in problems
    assert "pc-i440fx-99.9" in problems


def test_the_host_says_what_it_has(world: World) -> None:
    resources = world.hypervisor.resources()
    assert resources.vcpus > 0
    assert resources.memory_mb > 0
    assert resources.local_disk_bytes > 0
    assert resources.hypervisor_version.startswith("7.2.")


def test_the_host_offers_the_kind_of_guest_that_it_can_run(world: World) -> None:
    world.hypervisor.define(world.xml())
    wanted = world.hypervisor.describe(world.uuid).requirements
    assert wanted == Requirements("x86_64", "qemu", "pc-i440fx-7.2", wanted.cpu_mode, None, [])
    assert [one.requirements for one in world.hypervisor.list_domains()] == [wanted]
    (kind,) = (
        one
        for one in world.hypervisor.guest_kinds()
        if (one.arch, one.virt_type) == (wanted.arch, wanted.virt_type)
    )
    assert wanted.machine in kind.machines
    assert "host-passthrough" not in kind.cpu_modes
