"""Logical ports of OVN ask for what they should at each step of a migration, and after its undo for what they did.

A module that takes these tests gives the fixture *ovn*: kvm1 and kvm2 are chassis, kvm9 is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import pytest

from hostler.drivers.ports.libvirt import LibvirtPorts
from hostler.drivers.ports.northbound import LogicalPort, Moved, Northbound
from hostler.drivers.ports.ovn import OvnPorts
from hostler.errors import (
    CloudServiceFailed,
    Fenced,
    ForeignObject,
    PortBindingFailed,
    PortNotMovable,
    ServerUnreachable,
)
from hostler.objects import Port
from hostler.records import fence
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from tests.records_made import make_host, make_instance, make_leg
from tests.support.mortal import Killed, Mortal

numbers = itertools.count(1)


class Stand(Protocol):
    """An OVN with kvm1 and kvm2 in it."""

    service: Northbound

    def add_port(self, name: str, mac: str, asks_for: str, **facts: str) -> None:
        """Make a logical port; *facts*: ``kind``."""

    def remove_port(self, name: str) -> None:
        """Let it be gone."""

    def set_request(self, name: str, chassis: str) -> None:
        """Let somebody else change what it asks for."""

    def fail_next(self, call: str, times: int) -> None:
        """Let OVN not answer that many calls."""

    def lose_next_answer(self, call: str) -> None:
        """Let the next such change be made, and its answer never come."""

    def grow_old(self) -> None:
        """Be an OVN that lets a port ask for one chassis."""


@dataclass
class World:
    """A server on kvm1 that is about to move to kvm2, with two ports that ask for kvm1 and one that asks for none."""

    stand: Stand
    database: Database
    instance: str
    records: FencedRecords
    ports: list[Port]

    @property
    def driver(self) -> OvnPorts:
        return driver(self.stand.service)

    @property
    def everything(self) -> list[LogicalPort | None]:
        return [self.stand.service.port(port.interface or "") for port in self.ports]

    @property
    def asked(self) -> list[str | None]:
        """What each asks for; None if it is gone."""
        return [port.asks_for if port else None for port in self.everything]

    def reserve(self, host: str = "kvm2") -> None:
        for port in self.ports:
            self.driver.reserve(self.records, self.instance, port, host)

    def bind(self) -> None:
        for port in self.ports:
            self.driver.bind(self.records, self.instance, port, "kvm2")

    def unbind(self) -> None:
        for port in reversed(self.ports):
            self.driver.unbind(self.records, self.instance, port, "kvm2")

    def settle(self) -> None:
        self.driver.settle(self.records, self.instance, "kvm2")


def driver(service: Northbound, host: str = "kvm2") -> OvnPorts:
    local = LibvirtPorts(dict, lambda name: name == "br-int", {}, host)
    return OvnPorts(service, local, host, {"kvm1": "kvm1"})


def new_port() -> Port:
    number = next(numbers)
    mac = f"fa:16:3e:00:{number // 256:02x}:{number % 256:02x}"
    return Port(mac, "bridge", "br-int", interface=f"port-{number}")


@pytest.fixture
def world(ovn: Stand, database: Database) -> World:
    with database.transaction() as session:
        for host in ("kvm1", "kvm2"):
            make_host(session, host)
        instance = make_instance(session, "kvm1")
    ports = [new_port() for _ in range(3)]
    for port, asks_for in zip(ports, ("kvm1", "kvm1", ""), strict=True):
        ovn.add_port(str(port.interface), port.mac, asks_for)
    return World(ovn, database, instance, make_leg(database, instance), ports)


def test_the_destination_is_asked_for_too_then_first_then_alone(world: World) -> None:
    for _ in range(2):
        world.reserve()
    assert world.asked == ["kvm1,kvm2", "kvm1,kvm2", ""]
    for _ in range(2):
        world.bind()
    assert world.asked == ["kvm2,kvm1", "kvm2,kvm1", ""]
    for _ in range(2):
        world.settle()
    assert world.asked == ["kvm2", "kvm2", ""]


@pytest.mark.parametrize("far", ["reserve", "bind", "both"])
def test_what_is_undone_is_as_it_was(world: World, far: str) -> None:
    before = world.everything
    for step in ("reserve", "bind") if far == "both" else (far,):
        getattr(world, step)()
    assert world.everything != before
    for _ in range(2):
        world.unbind()
    assert world.everything == before


def test_an_ovn_that_knows_one_chassis_for_a_port_is_asked_for_it_late(world: World) -> None:
    world.stand.grow_old()
    before = world.everything
    world.reserve()
    assert world.everything == before
    for _ in range(2):
        world.bind()
    assert world.asked == ["kvm2", "kvm2", ""]
    world.unbind()
    assert world.everything == before
    world.bind()
    world.settle()
    assert world.asked == ["kvm2", "kvm2", ""]


def test_a_host_that_is_no_chassis_is_a_refusal_with_a_hint(world: World) -> None:
    before = world.everything
    with pytest.raises(PortNotMovable, match="OVN has no chassis kvm9") as told:
        world.reserve("kvm9")
    assert told.value.hint == "ovn-sbctl show"
    (problem, *_) = driver(world.stand.service, "kvm9").destination_problems(world.instance, world.ports)
    assert (problem, problem.hint) == ("OVN has no chassis kvm9", told.value.hint)
    assert world.everything == before


def test_a_chassis_is_known_by_the_name_that_the_settings_give(world: World) -> None:
    local = LibvirtPorts(dict, lambda _: True, {}, "node9")
    renamed = OvnPorts(world.stand.service, local, "node9", {"node9": "kvm2"})
    assert renamed.destination_problems(world.instance, world.ports) == []
    renamed.reserve(world.records, world.instance, world.ports[0], "node9")
    assert world.asked[0] == "kvm1,kvm2"


def test_a_port_that_ovn_does_not_have_or_has_for_another_address_is_refused(world: World) -> None:
    port = new_port()
    (problem,) = world.driver.destination_problems(world.instance, [port])
    assert problem == f"port {port.mac} cannot be moved to kvm2: OVN has no logical port {port.interface}"
    world.stand.add_port(str(port.interface), "fa:16:3e:ff:ff:ff", "kvm1")
    (problem,) = world.driver.destination_problems(world.instance, [port])
    assert f"logical port {port.interface} is for fa:16:3e:ff:ff:ff" in problem
    assert problem.hint == f"ovn-nbctl lsp-get-addresses {port.interface}"


def test_a_port_that_is_no_guests_is_refused(world: World) -> None:
    port = new_port()
    world.stand.add_port(str(port.interface), port.mac, "", kind="localnet")
    (problem,) = world.driver.destination_problems(world.instance, [port])
    assert problem.endswith("is no guest's: its type is localnet")


@pytest.mark.parametrize("asks_for", ["kvm2", "kvm1,kvm2", "kvm9"])
def test_a_port_that_asks_for_another_chassis_than_its_servers_is_refused(
    world: World, asks_for: str
) -> None:
    port = new_port()
    world.stand.add_port(str(port.interface), port.mac, asks_for)
    with pytest.raises(
        PortNotMovable, match=f"it asks OVN for {asks_for}, and the server is on kvm1"
    ) as told:
        world.driver.reserve(world.records, world.instance, port, "kvm2")
    hint = f"ovn-nbctl set Logical_Switch_Port {port.interface} options:requested-chassis=kvm1"
    assert told.value.hint == hint
    world.driver.unbind(world.records, world.instance, port, "kvm2")
    found = world.stand.service.port(str(port.interface))
    assert found is not None and found.asks_for == asks_for


def test_what_somebody_else_asks_for_meanwhile_fails_the_step_and_is_left(world: World) -> None:
    world.reserve()
    world.stand.set_request(str(world.ports[0].interface), "kvm9")
    with pytest.raises(PortBindingFailed, match="it asks OVN for kvm9 now"):
        world.bind()
    with pytest.raises(ForeignObject, match="asks OVN for"):
        world.unbind()
    assert world.asked == ["kvm9", "kvm1", ""]


def test_a_confirmation_leaves_what_somebody_else_asks_for(world: World) -> None:
    world.bind()
    world.stand.set_request(str(world.ports[0].interface), "kvm1")
    with pytest.raises(ForeignObject):
        world.settle()
    assert world.asked[0] == "kvm1"


def test_a_port_that_goes_meanwhile_fails_the_step_and_does_not_hold_up_the_undo(world: World) -> None:
    world.reserve()
    world.stand.remove_port(str(world.ports[0].interface))
    with pytest.raises(PortBindingFailed, match="it is gone from OVN"):
        world.bind()
    world.unbind()
    assert world.asked == [None, "kvm1", ""]


def test_a_port_that_goes_before_the_confirmation_does_not_hold_it_up(world: World) -> None:
    world.bind()
    world.stand.remove_port(str(world.ports[0].interface))
    world.settle()
    assert world.asked == [None, "kvm2", ""]


@pytest.mark.parametrize("call", ["port", "ask_for"])
def test_an_ovn_that_stays_away_fails_the_step_and_postpones_the_undo(world: World, call: str) -> None:
    before = world.everything
    world.stand.fail_next(call, 1)
    with pytest.raises(CloudServiceFailed, match="OVN failed"):
        world.bind()
    world.unbind()
    assert world.everything == before
    world.bind()
    world.stand.fail_next(call, 1)
    with pytest.raises(ServerUnreachable):
        world.unbind()
    world.unbind()
    assert world.everything == before


def test_a_change_whose_answer_was_lost_is_made_once(world: World) -> None:
    before = world.everything
    for step, asked in ((world.bind, ["kvm2,kvm1"] * 2), (world.unbind, ["kvm1"] * 2)):
        world.stand.lose_next_answer("ask_for")
        for _ in range(2):
            with suppress(CloudServiceFailed, ServerUnreachable):
                step()
        assert world.asked == [*asked, ""]
    assert world.everything == before


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize(("step", "changes"), [("bind", 4), ("unbind", 2)])
def test_a_worker_that_dies_at_any_change_is_carried_on_and_undone(
    world: World, step: str, changes: int, done: bool
) -> None:
    before = world.everything
    for number in itertools.count(1):
        if step == "unbind":
            world.bind()
        mortal = Mortal(world.stand.service, ["ask_for"], number, done=done)
        with suppress(Killed):
            for port in world.ports:
                getattr(driver(mortal), step)(world.records, world.instance, port, "kvm2")
        if step == "bind" and number % 2:
            world.bind()
            assert world.asked == ["kvm2,kvm1", "kvm2,kvm1", ""]
        world.unbind()
        assert world.everything == before, f"change {number}"
        if mortal.left > 0:
            break
    assert number == changes + 1


def test_a_leg_that_was_passed_over_changes_nothing(world: World) -> None:
    world.reserve()
    before = world.everything
    with world.database.transaction() as session:
        fence.raise_fence(session, world.records.migration, 2)
    for step in (world.bind, world.unbind):
        with pytest.raises(Fenced):
            step()
    assert world.everything == before


def test_interfaces_of_which_ovn_knows_nothing_are_libvirts(world: World) -> None:
    plain = replace(world.ports[0], interface=None)
    lacking = replace(plain, source="br9")
    assert world.driver.destination_problems(world.instance, [plain]) == []
    assert world.driver.destination_problems(world.instance, [lacking]) == ["kvm2 has no bridge br9"]
    for step in (world.driver.reserve, world.driver.bind, world.driver.unbind):
        step(world.records, world.instance, plain, "kvm2")
    assert world.asked == ["kvm1", "kvm1", ""]


def test_a_port_that_asks_for_another_host_is_named(world: World) -> None:
    at_home = driver(world.stand.service, "kvm1")
    assert at_home.astray(world.instance, world.ports, "kvm1") == []
    name = str(world.ports[1].interface)
    world.stand.set_request(name, "kvm1,kvm2")
    (found,) = at_home.astray(world.instance, world.ports, "kvm1")
    assert (found.port, found.text) == (name, f"port {world.ports[1].mac} asks OVN for kvm1,kvm2")


# -- the service itself -----------------------------------------------------------------------------------


def test_a_service_changes_only_what_is_as_it_was_thought_to_be(world: World) -> None:
    ask: Callable[..., None] = world.stand.service.ask_for
    name = str(world.ports[0].interface)
    ask(name, "kvm2", "kvm1")
    ask(name, "kvm2", "kvm1")
    with pytest.raises(Moved, match="kvm2"):
        ask(name, "kvm1,kvm2", "kvm1")
    with pytest.raises(Moved):
        ask("nobody", "kvm2", "kvm1")
    assert world.asked[0] == "kvm2"
