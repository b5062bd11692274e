"""Ports in a real Neutron, which also fails, hangs and dies in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from hostler import drivers
from hostler.drivers.cloud import CloudService
from hostler.drivers.ports.neutron import NeutronPorts
from hostler.drivers.ports.neutron_api import NeutronApi
from hostler.errors import CloudServiceFailed, CloudServiceRefused, PortBindingFailed, ServerUnreachable
from lab.services import Neutron
from tests.support.contracts.neutron import *  # noqa: F403 - the tests are the module's
from tests.support.contracts.neutron import World, driver
from tests.support.obstacle import WAYS, Obstacle, Trouble

LINES = {
    "port": "GET /v2.0/ports/[^/]*$",
    "add_binding": "POST .*/bindings$",
    "activate": "PUT .*/activate$",
    "drop_binding": "DELETE .*/bindings/",
    "move": "PUT /v2.0/ports/[^/]*$",
}
NAMES = {"owner": "device_owner", "vnic_type": "binding:vnic_type", "profile": "binding:profile"}


@dataclass
class Real:
    """A :class:`~tests.support.contracts.neutron.Stand`: ports of its own in the Neutron that all tests share."""

    service: NeutronApi
    way: Obstacle
    neutron: Neutron
    network: str

    def add_port(self, mac: str, server: str, host: str, **facts: Any) -> str:
        told = {NAMES[name]: value for name, value in facts.items()}
        return str(self.neutron.add_port(self.network, server, host, mac_address=mac, **told)["id"])

    def remove_port(self, uuid: str) -> None:
        self.neutron.request("DELETE", f"/v2.0/ports/{uuid}")

    def fail_next(self, call: str, times: int) -> None:
        self.way.expect(Trouble("503", LINES[call], times=times))

    def lose_next_answer(self, call: str) -> None:
        self.way.expect(Trouble("lose", LINES[call]))

    def forget_extension(self) -> None:
        self.way.expect(Trouble("404", "GET /v2.0/extensions/", times=100))


@pytest.fixture
def neutron(
    real_neutron: Neutron, neutron_network: str, before_neutron: Obstacle, conf_of: Callable[..., Any]
) -> Real:
    conf = conf_of(real_neutron, before_neutron)
    service = NeutronApi(CloudService(conf, "Neutron", "network"))
    return Real(service, before_neutron, real_neutron, neutron_network)


@pytest.fixture
def impatient(
    neutron: Real, real_neutron: Neutron, before_neutron: Obstacle, conf_of: Callable[..., Any]
) -> NeutronPorts:
    """Ports whose service has two seconds to answer."""
    conf = conf_of(real_neutron, before_neutron, timeout=2.0)
    return driver(NeutronApi(CloudService(conf, "Neutron", "network")))


@pytest.mark.parametrize("way", [*WAYS, "409"])
def test_whichever_request_of_a_step_fails_its_undo_leaves_everything_as_it_was(
    world: World, neutron: Real, impatient: NeutronPorts, way: str
) -> None:
    before, trouble, port = world.everything, Trouble(way), world.ports[0]
    for number in range(100):
        neutron.way.clear()
        neutron.way.expect(trouble := Trouble(way, skip=number))
        try:
            impatient.bind(world.records, world.instance, port, "kvm2")
        except (CloudServiceFailed, CloudServiceRefused, PortBindingFailed):
            assert not trouble.times
        neutron.way.clear()
        world.unbind()
        assert world.everything == before, f"request {number}"
        if trouble.times:
            break
    assert number > 6, (
        "it looks for the port, reads where it is, binds it, makes that active, and looks again"
    )


@pytest.mark.parametrize("way", WAYS)
def test_whichever_request_of_an_undo_fails_it_is_undone_when_neutron_is_back(
    world: World, neutron: Real, impatient: NeutronPorts, way: str
) -> None:
    before, trouble, port = world.everything, Trouble(way), world.ports[0]
    for number in range(100):
        world.driver.bind(world.records, world.instance, port, "kvm2")
        neutron.way.clear()
        neutron.way.expect(trouble := Trouble(way, skip=number))
        try:
            impatient.unbind(world.records, world.instance, port, "kvm2")
        except ServerUnreachable:
            assert not trouble.times
        neutron.way.clear()
        world.unbind()
        assert world.everything == before, f"request {number}"
        if trouble.times:
            break
    assert number > 6


@pytest.mark.parametrize("way", ["503", "lose"])
def test_whichever_request_of_a_confirmation_fails_it_is_finished_when_neutron_is_back(
    world: World, neutron: Real, impatient: NeutronPorts, way: str
) -> None:
    world.bind()
    for number in range(100):
        neutron.way.clear()
        neutron.way.expect(trouble := Trouble(way, skip=number))
        try:
            impatient.settle(world.records, world.instance, "kvm2")
        except ServerUnreachable:
            assert not trouble.times
        neutron.way.clear()
        assert all(place["kvm2"] for place in world.places)
        if trouble.times:
            break
    assert world.places == [{"kvm2": True}] * 2


@pytest.mark.parametrize("status", ["401", "403"])
def test_credentials_that_are_refused_in_the_middle_fail_the_step(
    world: World, neutron: Real, status: str
) -> None:
    before = world.everything
    neutron.way.expect(Trouble(status, LINES["activate"], times=2))
    with pytest.raises(CloudServiceRefused, match=f"Neutron refuses: .*{status}"):
        world.bind()
    neutron.way.clear()
    world.unbind()
    assert world.everything == before


def test_credentials_that_do_not_see_bindings_are_told_from_an_unbound_port(
    world: World, neutron: Real
) -> None:
    body = '{"ports": [{"id": "1", "mac_address": "a", "device_id": "b", "device_owner": "network:dhcp"}]}'
    neutron.way.expect(Trouble("200", "GET /v2.0/ports[?]", body=body))
    with pytest.raises(CloudServiceRefused, match="not an administrator's"):
        world.driver.destination_problems(world.instance, world.ports)


def test_the_driver_of_the_settings_asks_the_cloud_that_they_name(
    neutron: Real, real_neutron: Neutron, conf_of: Callable[..., Any]
) -> None:
    made = drivers.load("ports", "neutron")(conf_of(real_neutron, neutron.way))
    assert type(made) is NeutronPorts
    assert made.astray("nobody", [], "kvm1") == []


@pytest.mark.parametrize(
    ("status", "wanted", "up"),
    [("ACTIVE", True, True), ("DOWN", True, False), ("BUILD", True, False), ("DOWN", False, True)],
)
def test_a_port_is_up_if_it_is_plugged_in_or_nobody_wants_it(status: str, wanted: bool, up: bool) -> None:
    told: dict[str, Any] = {"id": "p", "mac_address": "m", "device_id": "d", "device_owner": "network:dhcp"}
    told |= {"binding:host_id": "kvm1", "binding:vif_type": "ovs", "binding:vnic_type": "normal"}
    told |= {"binding:profile": {}, "binding:vif_details": {}, "status": status, "admin_state_up": wanted}
    answers = {"/v2.0/extensions/binding-extended": {}, "/v2.0/ports/p": {"port": told}}

    def ask(_method: str, path: str) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer._content = 200, json.dumps(answers[path]).encode()
        return answer

    found = NeutronApi(SimpleNamespace(ask=ask)).port("p")  # type: ignore[arg-type]
    assert found is not None and found.up is up
