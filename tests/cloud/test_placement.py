"""Claims in a real Placement, which also fails, hangs and dies in the middle."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from hostler import drivers
from hostler.drivers.claims.placement import PlacementClaims
from hostler.drivers.claims.placement_api import VERSION, PlacementApi
from hostler.drivers.claims.records import RecordsClaims
from hostler.drivers.cloud import CloudService
from hostler.errors import CloudServiceFailed, CloudServiceRefused, HostlerError, ServerUnreachable
from lab.services import Placement
from tests.support.contracts.placement import *  # noqa: F403 - the tests are the module's
from tests.support.contracts.placement import PLACE, SIZE, TOTALS, World
from tests.support.obstacle import WAYS, Obstacle, Trouble

CONCURRENT = (
    '{"errors": [{"status": 409, "code": "placement.concurrent_update", "detail": "somebody was faster"}]}'
)
LINES = {"allocation": "GET /allocations/", "allocate": "POST /allocations"}

numbers = itertools.count()


@dataclass
class Real:
    """A :class:`~tests.support.contracts.placement.Stand`: hosts of its own in the Placement that all tests share."""

    service: PlacementApi
    way: Obstacle
    providers: dict[str, str]

    def provider(self, host: str) -> str:
        return self.providers[host]

    def lose_next_answer(self) -> None:
        self.way.expect(Trouble("lose", LINES["allocate"]))

    def fail_next(self, call: str, times: int) -> None:
        self.way.expect(Trouble("503", LINES[call], times=times))

    def expect_crowd(self, size: int) -> None:
        """The real one needs no arrangement."""


class Named(PlacementApi):
    """Hosts are called kvm1 and kvm2 in every test, and otherwise in the Placement that they share."""

    names: dict[str, str]

    def provider(self, name: str) -> str:
        return super().provider(self.names.get(name, name))


@pytest.fixture
def placement(real_placement: Placement, before_placement: Obstacle, conf_of: Callable[..., Any]) -> Real:
    conf = conf_of(real_placement, before_placement)
    service = Named(CloudService(conf, "Placement", "placement", VERSION))
    service.names = {host: f"{host}-{next(numbers)}" for host in TOTALS}
    providers = {
        host: real_placement.add_provider(service.names[host], **totals) for host, totals in TOTALS.items()
    }
    return Real(service, before_placement, providers)


@pytest.fixture
def impatient(
    placement: Real, real_placement: Placement, before_placement: Obstacle, conf_of: Callable[..., Any]
) -> PlacementClaims:
    """Claims that give a service a second to answer."""
    conf = conf_of(real_placement, before_placement, timeout=1.0)
    service = Named(CloudService(conf, "Placement", "placement", VERSION))
    service.names = placement.service.names  # type: ignore[attr-defined]
    return PlacementClaims(service, RecordsClaims(), pause_s=0.02)


@pytest.mark.parametrize("way", WAYS)
def test_whichever_request_of_a_claim_fails_its_undo_leaves_everything_as_it_was(
    world: World, placement: Real, impatient: PlacementClaims, way: str
) -> None:
    before, trouble = world.everything, Trouble(way)
    for number in range(100):
        placement.way.clear()
        placement.way.expect(trouble := Trouble(way, skip=number))
        try:
            impatient.claim(world.records, "kvm2", PLACE)
        except CloudServiceFailed:
            assert not trouble.times
        placement.way.clear()
        world.claims.drop(world.records, "kvm2")
        assert world.everything == before, f"request {number}"
        if trouble.times:
            break
    assert number > 6, "a claim looks at hosts, at both consumers, changes them, and looks what came of it"


@pytest.mark.parametrize("way", WAYS)
def test_whichever_request_of_an_undo_fails_it_is_undone_when_placement_is_back(
    world: World, placement: Real, impatient: PlacementClaims, way: str
) -> None:
    before, trouble = world.everything, Trouble(way)
    for number in range(100):
        world.claims.claim(world.records, "kvm2", PLACE)
        placement.way.clear()
        placement.way.expect(trouble := Trouble(way, skip=number))
        try:
            impatient.drop(world.records, "kvm2")
        except ServerUnreachable:
            assert not trouble.times
        placement.way.clear()
        world.claims.drop(world.records, "kvm2")
        assert world.everything == before, f"request {number}"
        if trouble.times:
            break
    assert number > 2


def test_a_placement_that_answers_once_with_503_is_asked_again(
    world: World, placement: Real, real_placement: Placement, conf_of: Callable[..., Any]
) -> None:
    conf = conf_of(real_placement, placement.way, retries=1)
    service = CloudService(conf, "Placement", "placement", VERSION)
    placement.way.expect(Trouble("503", LINES["allocation"]))
    placement.way.expect(Trouble("503", LINES["allocate"]))
    named = Named(service)
    named.names = placement.service.names  # type: ignore[attr-defined]
    PlacementClaims(named, RecordsClaims()).claim(world.records, "kvm2", PLACE)
    assert world.has(world.instance) == {"kvm2": SIZE}


def test_a_concurrent_update_is_retried_by_us(world: World, placement: Real) -> None:
    placement.way.clear()
    placement.way.expect(Trouble("409", LINES["allocate"], times=3, body=CONCURRENT))
    world.claims.claim(world.records, "kvm2", PLACE)
    assert world.has(world.instance) == {"kvm2": SIZE}
    assert len([line for line in placement.way.seen if line == LINES["allocate"]]) == 4


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_credentials_that_are_refused_in_the_middle_fail_the_claim(
    world: World, placement: Real, status: str
) -> None:
    before = world.everything
    placement.way.expect(Trouble(status, LINES["allocate"], times=2))
    with pytest.raises(CloudServiceRefused, match=f"Placement refuses: .*{status}"):
        world.claims.claim(world.records, "kvm2", PLACE)
    placement.way.clear()
    world.claims.drop(world.records, "kvm2")
    assert world.everything == before


def test_the_driver_of_the_settings_asks_the_cloud_that_they_name(
    placement: Real, real_placement: Placement, conf_of: Callable[..., Any]
) -> None:
    conf = conf_of(real_placement, placement.way)
    made = drivers.load("claims", "placement")(conf)
    assert type(made) is PlacementClaims
    conf.set_override("cloud", "elsewhere", "openstack")
    with pytest.raises(HostlerError, match=r"\[openstack\] cloud: Cloud elsewhere was not found"):
        CloudService(conf, "Placement", "placement").ask("GET", "/")
