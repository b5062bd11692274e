"""Servers that have CPUs and NUMA nodes for themselves: on another host they have others, and back their old ones."""

from __future__ import annotations

from contextlib import suppress

import pytest

from hostler.drivers.hypervisor import topology
from hostler.errors import MigrationError, Stopping, Unreachable
from hostler.jobboard.adoption import Adoption
from hostler.objects import Placement
from hostler.records import flavors, placements
from tests.support.world import World, failing, step

TUNE = (
    "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='1' cpuset='1'/>"
    "<emulatorpin cpuset='0-1'/></cputune><numatune><memory mode='strict' nodeset='0'/></numatune>"
)


def add_pinned(world: World, name: str = "web1", host: str = "kvm1") -> str:
    """Make a server with CPUs 0 and 1 of its host for itself."""
    server = world.add_server(name)
    guest = world.hosts[host].hypervisor.guests[server]
    guest.xml = guest.xml.replace("<vcpu>1</vcpu>", TUNE)
    Adoption(world.database, world.hosts[host].hypervisor, host).run()
    return server


@pytest.fixture
def pinned(world: World) -> str:
    """web1 is pinned to CPUs 0 and 1 of kvm1; of kvm2's four a guest has CPU 1."""
    there = world.hosts["kvm2"].hypervisor
    there.topology = topology.uniform(4, 4096)
    there.define(
        "<domain type='qemu'><name>db</name><uuid>dbdbdbdb-0000-4000-8000-000000000000</uuid><vcpu>1</vcpu>"
        "<cputune><vcpupin vcpu='0' cpuset='1'/></cputune><os><type>hvm</type></os></domain>"
    )
    return add_pinned(world)


def held(world: World, server: str, host: str) -> Placement | None:
    """What the server's definition on that host takes of it."""
    hypervisor = world.hosts[host].hypervisor
    return hypervisor.held(hypervisor.describe(server).xml)


def rows(world: World) -> list[tuple[str, list[int]]]:
    """What migrations hold."""
    with world.database.reading() as session:
        return sorted(
            (host, one.cpus)
            for host in world.hosts
            for one in placements.of_others(session, host, "nobody's").values()
        )


def test_it_has_free_cpus_there_and_its_old_ones_are_kept_until_it_is_confirmed(
    world: World, pinned: str
) -> None:
    number = world.migrate("web1").uuid
    assert world.migration(number).outcome == "success"
    assert held(world, pinned, "kvm2") == Placement([0, 2], {"0": 64})
    assert 'cpuset="0,2"' in world.hosts["kvm2"].hypervisor.describe(pinned).xml  # its emulator
    assert rows(world) == [("kvm1", [0, 1]), ("kvm2", [0, 2])]
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert rows(world) == []


@pytest.mark.parametrize("dies", [None, "UndefineGuest", "HandBack"])
def test_it_goes_back_to_the_cpus_that_it_had(world: World, pinned: str, dies: str | None) -> None:
    before = world.look()
    world.migrate("web1")
    # nobody else got them meanwhile
    hypervisor = world.hosts["kvm1"].hypervisor
    with world.database.reading() as session:
        others = placements.of_others(session, "kvm1", "another's")
    arriving = world.hosts["kvm2"].hypervisor.describe("dbdbdbdb-0000-4000-8000-000000000000")
    found = hypervisor.place(arriving, others)
    assert found is not None
    assert found.cpus == [2]

    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    if dies is not None:
        with failing(step("revert_resize", dies), Stopping("killed"), when="after"), pytest.raises(Stopping):
            world.run()
    world.run()
    assert world.look() == before


@pytest.mark.parametrize("name", ["ClaimResources", "UndefineDomain", "FinishMigration", "HandOver"])
def test_whatever_fails_nothing_is_held(world: World, pinned: str, name: str) -> None:
    before = world.look()
    with failing(step("cold_migration", name), MigrationError("on purpose"), when="before"):
        assert world.migrate("web1").outcome in ("reverted", "refused")
    assert world.look() == before
    assert rows(world) == []


def test_where_it_does_not_fit_it_is_refused_before_it_is_stopped(world: World, pinned: str) -> None:
    world.hosts["kvm2"].hypervisor.topology = topology.uniform(2, 4096)
    before = world.look()
    migration = world.migrate("web1")
    assert (migration.outcome, world.hosts["kvm1"].hypervisor.booted[pinned]) == ("refused", 1)
    assert "2 CPUs of its own on NUMA node 0 needed, 1 not pinned by others" in str(migration.error)
    number = world.client.dry_run("web1", "kvm2", requested_by="tester")
    world.run()
    (problem,) = (world.migration(number).report or {})["dest"]
    assert problem == "2 CPUs of its own on NUMA node 0 needed, 1 not pinned by others"
    assert world.look() == before


def test_two_that_arrive_at_once_get_different_cpus(world: World, pinned: str) -> None:
    world.hosts["kvm2"].hypervisor.topology = topology.uniform(5, 4096)
    second = add_pinned(world, "web2")
    for server in ("web1", "web2"):
        world.client.migrate(server, "kvm2", requested_by="tester")
    # the boards take turns: both have their claim before either is defined; one brings the base image of both
    while any(world.board.jobs(host) for host in world.hosts):
        with suppress(Unreachable):
            world.run()
    found = [held(world, server, "kvm2") for server in (pinned, second)]
    assert sorted(cpu for one in found if one for cpu in one.cpus) == [0, 2, 3, 4]


def test_memory_that_a_server_holds_and_has_there_counts_once(world: World, pinned: str) -> None:
    # 64 MiB each: room for two, one of which is defined there and not confirmed yet
    world.hosts["kvm2"].hypervisor.topology = topology.uniform(8, 128)
    second = add_pinned(world, "web2")
    assert world.migrate("web1").outcome == "success"
    assert world.migrate("web2").outcome == "success"
    third = world.hosts["kvm2"].hypervisor.describe(second)
    assert held(world, second, "kvm2") == Placement([3, 4], {"0": 64})
    assert third.power_state.active
    add_pinned(world, "web3")
    assert "0 MiB not promised to others" in str(world.migrate("web3").error)


def test_on_its_own_host_it_keeps_its_cpus(world: World, pinned: str) -> None:
    with world.database.transaction() as session:
        flavors.create(session, "more", vcpus=2, memory_mb=256)
        flavors.create(session, "fewer", vcpus=1, memory_mb=64)
    before = world.look()
    assert world.resize("web1", "more", "kvm1").outcome == "success"
    assert held(world, pinned, "kvm1") == Placement([0, 1], {"0": 256})
    world.client.revert_resize("web1", requested_by="tester", reason="back", drop_writes=True)
    world.run()
    assert world.look() == before
    assert world.resize("web1", "fewer", "kvm2").outcome == "success"
    assert held(world, pinned, "kvm2") == Placement([0], {"0": 64})
    assert rows(world) == [("kvm1", [0, 1]), ("kvm2", [0])]


def test_of_more_vcpus_each_has_a_cpu_for_itself(world: World, pinned: str) -> None:
    with world.database.transaction() as session:
        flavors.create(session, "more", vcpus=3, memory_mb=64)
        flavors.create(session, "most", vcpus=4, memory_mb=64)
    before = world.look()
    refused = world.resize("web1", "most", "kvm2")
    assert "4 CPUs of its own on NUMA node 0 needed, 3 not pinned by others" in str(refused.error)
    assert world.resize("web1", "more", "kvm2").outcome == "success"
    assert held(world, pinned, "kvm2") == Placement([0, 2, 3], {"0": 64})
    assert 'emulatorpin cpuset="0,2"' in world.hosts["kvm2"].hypervisor.describe(pinned).xml
    world.client.revert_resize("web1", requested_by="tester", reason="back", drop_writes=True)
    world.run()
    assert world.look() == before
