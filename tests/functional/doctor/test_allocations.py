"""What is held in Placement of a host, by whom it should not be, is named."""

from __future__ import annotations

import pytest

from hostler.drivers.claims.allocations import Allocation
from hostler.drivers.claims.placement_fake import FakePlacementService
from hostler.errors import ServerUnreachable
from tests.functional.doctor.conftest import Ward
from tests.functional.flows.test_placement import give_place
from tests.support.world import World

PART = {"VCPU": 1}


@pytest.fixture
def service(world: World) -> FakePlacementService:
    return give_place(world)[1]


def test_a_server_that_holds_a_part_of_another_host_is_named_and_left(
    ward: Ward, service: FakePlacementService
) -> None:
    assert ward.told() == []
    (server,) = service.held
    here = service.allocation(server)
    parts = {**here.resources, service.providers["kvm2"]: PART}
    service.allocate({server: here.having(parts)})
    sentence = (
        "kvm2: server web1, which is on kvm1, holds a part of this host in Placement;"
        f" openstack resource provider allocation show {server}"
    )
    assert ward.told() == [sentence]
    ward.fix()
    assert ward.told() == [sentence]


def test_a_migration_that_is_over_and_holds_a_part_is_named(
    ward: Ward, world: World, service: FakePlacementService
) -> None:
    migration = world.migrate("web1").uuid
    assert [one for one in ward.examine().findings if one.kind == "allocation"] == []
    world.client.confirm("web1", requested_by="tester")
    world.run()
    service.allocate({migration: Allocation({service.providers["kvm1"]: PART}, kind="MIGRATION")})
    (sentence,) = ward.told()
    assert f"web1's migration {migration} (confirmed) holds a part of this host in Placement" in sentence


def test_strangers_are_none_of_our_business(ward: Ward, service: FakePlacementService) -> None:
    stranger = "6c2a94a5-46c5-4c6f-9f57-8dbb4d1d0a34"
    service.allocate({stranger: Allocation({service.providers["kvm1"]: PART})})
    assert ward.told() == []


def test_a_placement_that_is_away_is_said(ward: Ward, service: FakePlacementService) -> None:
    away = ServerUnreachable(what="Placement", where="cloud lab", reason="it is away")
    service.fail_next("consumers", away, times=2)
    assert [one.split(": ")[:2] for one in ward.told()] == [
        ["kvm1", "who holds a part of this host was not looked at"],
        ["kvm2", "who holds a part of this host was not looked at"],
    ]
