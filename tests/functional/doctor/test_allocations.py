"""What is held in Placement of a host, by whom it should not be, is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostler.drivers.claims.allocations import Allocation
from hostler.drivers.claims.placement_fake import FakePlacementService
from hostler.errors import ServerUnreachable
from tests.functional.doctor.conftest import Ward
from tests.functional.flows.test_placement import give_place
from tests.support.world import World

PART = {"VCPU": 1}


@pytest.fixture
def placement(world: World) -> FakePlacementService:
    return give_place(world)[1]


@pytest.fixture
def ward(world: World, placement: FakePlacementService) -> Iterator[Ward]:
    made = Ward(world)
    yield made
    made.end()


def told(ward: Ward) -> list[str]:
    return [f"{one.host}: {one.text}; {one.command}" for one in ward.examine().findings]


def test_a_server_that_holds_a_part_of_another_host_is_named_and_left(
    ward: Ward, placement: FakePlacementService
) -> None:
    assert told(ward) == []
    (server,) = placement.held
    here = placement.allocation(server)
    parts = {**here.resources, placement.providers["kvm2"]: PART}
    placement.allocate({server: here.having(parts)})
    sentence = (
        "kvm2: server web1, which is on kvm1, holds a part of this host in Placement;"
        f" openstack resource provider allocation show {server}"
    )
    assert told(ward) == [sentence]
    ward.fix()
    assert told(ward) == [sentence]


def test_a_migration_that_is_over_and_holds_a_part_is_named(
    ward: Ward, world: World, placement: FakePlacementService
) -> None:
    migration = world.migrate("web1").uuid
    assert [one for one in ward.examine().findings if one.kind == "allocation"] == []
    world.client.confirm("web1", requested_by="tester")
    world.run()
    placement.allocate({migration: Allocation({placement.providers["kvm1"]: PART}, kind="MIGRATION")})
    (sentence,) = told(ward)
    assert f"web1's migration {migration} (confirmed) holds a part of this host in Placement" in sentence


def test_strangers_are_none_of_our_business(ward: Ward, placement: FakePlacementService) -> None:
    stranger = "6c2a94a5-46c5-4c6f-9f57-8dbb4d1d0a34"
    placement.allocate({stranger: Allocation({placement.providers["kvm1"]: PART})})
    assert told(ward) == []


def test_a_placement_that_is_away_is_said(ward: Ward, placement: FakePlacementService) -> None:
    away = ServerUnreachable(what="Placement", where="cloud lab", reason="it is away")
    placement.fail_next("consumers", away, times=2)
    assert [one.split(": ")[:2] for one in told(ward)] == [
        ["kvm1", "who holds a part of this host was not looked at"],
        ["kvm2", "who holds a part of this host was not looked at"],
    ]
