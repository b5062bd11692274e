"""Volumes in a real Cinder, which also fails, hangs and dies in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hostler import drivers
from hostler.drivers.cloud import CloudService
from hostler.drivers.volumes.cinder import CinderVolumes
from hostler.drivers.volumes.cinder_api import VERSION, CinderApi
from hostler.errors import CloudServiceFailed, CloudServiceRefused, HostlerError, ServerUnreachable
from lab.services import Cinder
from tests.support.contracts.cinder import *  # noqa: F403 - the tests are the module's
from tests.support.contracts.cinder import World
from tests.support.obstacle import WAYS, Obstacle, Trouble

LINES = {
    "volume": "GET /v3/volumes/[^/]*$",
    "reserve": "POST /v3/attachments$",
    "connect": "PUT /v3/attachments/",
    "complete": "POST .*/action$",
    "drop": "DELETE /v3/attachments/",
}
CHANGE = "^(POST|PUT|DELETE) "


@dataclass
class Real:
    """A :class:`~tests.support.contracts.cinder.Stand`: volumes of its own in the Cinder that all tests share."""

    service: CinderApi
    way: Obstacle
    cinder: Cinder
    several: str  #: the type of volumes for several servers

    def add_volume(self, protocol: str = "rbd", *, shared: bool = False) -> str:
        facts = {"volume_type": self.several} if shared else {}
        return self.cinder.add_volume(metadata={"protocol": protocol}, **facts)

    def attach(self, volume: str, server: str, host: str, device: str) -> str:
        return self.cinder.attach(volume, server, host, device)

    def open_to(self, volume: str) -> list[str]:
        return self.cinder.open_to(volume)

    def refuse(self, *hosts: str) -> None:
        self.cinder.refuse(*hosts)

    def break_volume(self, volume: str) -> None:
        self.cinder.request("POST", f"/v3/volumes/{volume}/action", {"os-reset_status": {"status": "error"}})

    def fail_next(self, call: str, times: int) -> None:
        self.way.expect(Trouble("503", LINES[call], times=times))

    def lose_next_answer(self, call: str) -> None:
        self.way.expect(Trouble("lose", LINES[call]))


@pytest.fixture(scope="module")
def several(real_cinder: Cinder) -> str:
    """The name of a type of volumes for several servers."""
    facts = {"name": "several", "extra_specs": {"multiattach": "<is> True"}}
    return str(real_cinder.request("POST", "/v3/types", {"volume_type": facts})["volume_type"]["name"])


@pytest.fixture
def cinder(
    real_cinder: Cinder, several: str, before_cinder: Obstacle, conf_of: Callable[..., Any]
) -> Iterator[Real]:
    conf = conf_of(real_cinder, before_cinder)
    service = CinderApi(CloudService(conf, "Cinder", "block-storage", VERSION))
    yield Real(service, before_cinder, real_cinder, several)
    real_cinder.refuse()


@pytest.fixture
def impatient(
    cinder: Real, real_cinder: Cinder, before_cinder: Obstacle, conf_of: Callable[..., Any]
) -> CinderApi:
    """A service that has two seconds to answer."""
    conf = conf_of(real_cinder, before_cinder, timeout=2.0)
    return CinderApi(CloudService(conf, "Cinder", "block-storage", VERSION))


def each_request(
    world: World, way: Obstacle, trouble: Callable[[int], Trouble], act: Callable[[], None]
) -> int:
    """Let *act* meet trouble at its first request, then at its second, ...; after each attempt undo all of it.

    Return how many there are.
    """
    before = world.everything
    for number in range(100):
        way.clear()
        way.expect(met := trouble(number))
        try:
            act()
        except (CloudServiceFailed, CloudServiceRefused, ServerUnreachable):
            assert not met.times
        way.clear()
        world.undo()
        assert world.everything == before, f"request {number}"
        if met.times:
            return number
    raise AssertionError("it does not end")


@pytest.mark.parametrize("way", [*WAYS, "409"])
def test_whichever_change_fails_its_undo_leaves_everything_as_it_was(
    short: World, cinder: Real, impatient: CinderApi, way: str
) -> None:
    number = each_request(
        short, cinder.way, lambda one: Trouble(way, CHANGE, skip=one), lambda: short.move(impatient)
    )
    assert number == 4, "an empty one is made, the source's is dropped, the other connected and complete"


def test_whichever_request_fails_its_undo_leaves_everything_as_it_was(
    short: World, cinder: Real, impatient: CinderApi
) -> None:
    number = each_request(
        short, cinder.way, lambda one: Trouble("503", skip=one), lambda: short.move(impatient)
    )
    assert number > 8, "it looks at the volume and at its attachments, too"


@pytest.mark.parametrize("way", ["500", "hang", "lose"])
def test_whichever_change_of_an_undo_fails_it_is_undone_when_cinder_is_back(
    short: World, cinder: Real, impatient: CinderApi, way: str
) -> None:
    def moved_and_undone() -> None:
        with_trouble = cinder.way.troubles[:]
        cinder.way.clear()
        short.move()
        cinder.way.troubles[:] = with_trouble
        short.undo(impatient)

    number = each_request(short, cinder.way, lambda one: Trouble(way, CHANGE, skip=one), moved_and_undone)
    assert number == 4, "the same from the other end"


@pytest.mark.parametrize("status", ["401", "403"])
def test_credentials_that_are_refused_in_the_middle_fail_the_step(
    short: World, cinder: Real, status: str
) -> None:
    before = short.everything
    short.reserve()
    cinder.way.expect(Trouble(status, LINES["drop"], times=2))
    with pytest.raises(CloudServiceRefused, match=f"Cinder refuses: .*{status}"):
        short.let_go()
    cinder.way.clear()
    short.undo()
    assert short.everything == before


def test_credentials_that_do_not_see_hosts_are_told_from_a_volume_that_has_none(
    short: World, cinder: Real
) -> None:
    volume = short.volumes[0].serial
    attachments = [{"attachment_id": short.mine[0].id, "host_name": None, "device": None}]
    told = {"id": volume, "status": "in-use", "multiattach": False, "encrypted": False}
    body = json.dumps({"volume": {**told, "attachments": attachments}})
    cinder.way.expect(Trouble("200", LINES["volume"], body=body))
    with pytest.raises(CloudServiceRefused, match="not an administrator's"):
        short.reserve()


def test_a_cinder_that_is_killed_and_started_again_has_everything_undone(
    short: World, cinder: Real, real_cinder: Cinder
) -> None:
    before = short.everything
    short.reserve()
    short.let_go()
    cinder.way.expect(Trouble("pass", LINES["connect"], before=real_cinder.kill))
    with pytest.raises(CloudServiceFailed):
        short.take()
    with pytest.raises(ServerUnreachable):
        short.undo()
    real_cinder.start()
    short.undo()
    assert short.everything == before


def test_the_driver_of_the_settings_asks_the_cloud_that_they_name(
    short: World, cinder: Real, real_cinder: Cinder, conf_of: Callable[..., Any]
) -> None:
    conf = conf_of(real_cinder, cinder.way)
    conf.set_override("uri", "test:///default", "libvirt")
    made = drivers.load("volumes", "cinder")(conf)
    assert type(made) is CinderVolumes
    assert made.astray(short.domain, "kvm1") == []
    conf.set_override("cloud", "elsewhere", "openstack")
    with pytest.raises(HostlerError, match=r"\[openstack\] cloud: Cloud elsewhere was not found"):
        drivers.load("volumes", "cinder")(conf).astray(short.domain, "kvm1")
