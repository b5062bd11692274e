"""What a server has in Placement, whatever step of its migration fails."""

from __future__ import annotations

import dataclasses

import pytest

from hostler.drivers.claims.allocations import Allocation, ByProvider
from hostler.drivers.claims.placement import PlacementClaims
from hostler.drivers.claims.placement_fake import FakePlacementService
from hostler.errors import MigrationError
from hostler.flows import shape_of
from tests.support.world import World, failing, step

STEPS = [one.name for one in shape_of("cold_migration")]
#: From the claim to the last that is undone.
CONCERNED = STEPS[STEPS.index("ClaimResources") : STEPS.index("HandOver")]

#: What the worlds' servers take.
SIZE = {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}


def give_place(world: World) -> tuple[str, FakePlacementService]:
    """Make a server that has its place on kvm1 in Placement; return its UUID, and Placement."""
    server, service = world.add_server(), FakePlacementService()
    for name, host in world.hosts.items():
        service.add_provider(name, VCPU=64, MEMORY_MB=65536, DISK_GB=1000)
        claims = PlacementClaims(service, host.drivers.claims, patience_s=5, pause_s=0.01)
        host.drivers = dataclasses.replace(host.drivers, claims=claims)
    service.allocate({server: Allocation({service.providers["kvm1"]: SIZE})})
    return server, service


def held(service: FakePlacementService) -> dict[str, ByProvider]:
    """What each consumer has; how often that was changed does not matter."""
    return {consumer: one.resources for consumer, one in service.held.items()}


@pytest.mark.parametrize("name", CONCERNED)
def test_whichever_step_fails_the_allocation_is_as_it_was(world: World, name: str) -> None:
    _, service = give_place(world)
    before = world.look(), held(service)
    with failing(step("cold_migration", name), MigrationError("on purpose"), when="after"):
        assert world.migrate("web1").outcome == "reverted"
    assert (world.look(), held(service)) == before


def test_a_full_provider_refuses_the_server_before_it_is_touched(world: World) -> None:
    server, service = give_place(world)
    service.totals[service.providers["kvm2"]] = {"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0}
    before = world.look(), held(service)
    migration = world.migrate("web1")
    assert migration.outcome == "refused"
    assert "left in Placement" in str(migration.error)
    assert (world.look(), held(service)) == before
    assert world.hosts["kvm1"].hypervisor.booted[server] == 1


def test_a_moved_server_has_its_place_there_and_the_migration_keeps_the_way_back_until_it_is_confirmed(
    world: World,
) -> None:
    server, service = give_place(world)
    migration = world.migrate("web1").uuid
    there, back = {service.providers["kvm2"]: SIZE}, {service.providers["kvm1"]: SIZE}
    assert held(service) == {server: there, migration: back}
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert held(service) == {server: there}
