"""Ports of Neutron, before and after each step of a migration bound as they should be, and after its undo as before.

A module that takes these tests gives the fixture *neutron*: kvm1 and kvm2 can bind ports, kvm9 cannot.
"""

from __future__ import annotations

import itertools
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pytest

from hostler.drivers.ports.bindings import CannotBind, NetworkPort, NetworkService
from hostler.drivers.ports.neutron import NeutronPorts
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

#: What changes Neutron, as :class:`NetworkService` calls it.
CHANGES = ("add_binding", "activate", "drop_binding", "move")

addresses = (f"fa:16:3e:00:{number // 256:02x}:{number % 256:02x}" for number in itertools.count(1))


class Stand(Protocol):
    """A Neutron with kvm1 and kvm2 in it."""

    service: NetworkService

    def add_port(self, mac: str, server: str, host: str, **facts: Any) -> str:
        """Make a port of *server*; *facts*: ``owner``, ``vnic_type``, ``profile``. Return its uuid."""

    def remove_port(self, uuid: str) -> None:
        """Let it be gone."""

    def fail_next(self, call: str, times: int) -> None:
        """Let Neutron answer that many calls with what may pass."""

    def lose_next_answer(self, call: str) -> None:
        """Let the next such change be made, and its answer never come."""

    def forget_extension(self) -> None:
        """Be a Neutron that gives a port one place."""


@dataclass
class World:
    """A server on kvm1 with two ports that is about to move to kvm2."""

    stand: Stand
    database: Database
    instance: str
    records: FencedRecords
    ports: list[Port]
    uuids: list[str]

    @property
    def driver(self) -> NeutronPorts:
        return driver(self.stand.service)

    @property
    def everything(self) -> list[NetworkPort | None]:
        """How each port is bound to which hosts, whole."""
        return [_sorted(self.stand.service.port(one)) for one in self.uuids]

    @property
    def places(self) -> list[dict[str, bool]]:
        """Where each port is bound, and whether that is active."""
        found = (self.stand.service.port(one) for one in self.uuids)
        return [{one.host: one.active for one in port.bindings} if port else {} for port in found]

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


def driver(service: NetworkService, host: str = "kvm2") -> NeutronPorts:
    return NeutronPorts(service, host, lambda: ["bridge:br-int"], lambda name: name == "br-int")


def _sorted(port: NetworkPort | None) -> NetworkPort | None:
    if port is None:
        return None
    bindings = sorted(port.bindings, key=lambda one: one.host)
    return NetworkPort(port.id, port.mac, port.device, port.owner, bindings)


@pytest.fixture
def world(neutron: Stand, database: Database) -> World:
    """Its ports are bound to kvm1, as Nova or an operator has done it."""
    with database.transaction() as session:
        for host in ("kvm1", "kvm2"):
            make_host(session, host)
        instance = make_instance(session, "kvm1")
    macs = [next(addresses), next(addresses)]
    uuids = [neutron.add_port(mac, instance, "kvm1", profile={"os_vif_delegation": True}) for mac in macs]
    ports = [Port(mac=mac, kind="bridge", source="br-int") for mac in macs]
    return World(neutron, database, instance, make_leg(database, instance), ports, uuids)


def test_the_destination_waits_until_its_turn_and_the_source_until_it_is_confirmed(world: World) -> None:
    for _ in range(2):
        world.reserve()
    assert world.places == [{"kvm1": True, "kvm2": False}] * 2
    for _ in range(2):
        world.bind()
    assert world.places == [{"kvm1": False, "kvm2": True}] * 2
    for _ in range(2):
        world.settle()
    assert world.places == [{"kvm2": True}] * 2


def test_the_destinations_binding_has_what_the_source_was_given(world: World) -> None:
    before = [port.active for port in world.everything if port]
    world.reserve()
    world.bind()
    world.settle()
    for was, port in zip(before, world.everything, strict=True):
        assert was is not None and port is not None and port.active is not None
        assert (port.active.vif_type, port.active.profile, port.active.details) == (
            was.vif_type,
            was.profile,
            was.details,
        )


@pytest.mark.parametrize("far", ["reserve", "bind", "both"])
def test_what_is_undone_is_as_it_was_to_the_last_detail(world: World, far: str) -> None:
    before = world.everything
    for step in ("reserve", "bind") if far == "both" else (far,):
        getattr(world, step)()
    assert world.everything != before
    for _ in range(2):
        world.unbind()
    assert world.everything == before


def test_only_what_was_reserved_is_undone(world: World) -> None:
    before = world.everything
    world.driver.reserve(world.records, world.instance, world.ports[0], "kvm2")
    world.stand.service.add_binding(world.uuids[1], "kvm2", "normal", {})
    world.unbind()
    assert world.places == [{"kvm1": True}, {"kvm1": True, "kvm2": False}]
    world.stand.service.drop_binding(world.uuids[1], "kvm2")
    assert world.everything == before


def test_a_host_that_cannot_bind_is_a_refusal_with_a_hint(world: World) -> None:
    before = world.everything
    with pytest.raises(PortNotMovable, match="cannot be moved to kvm9: Neutron cannot bind it there") as told:
        world.reserve("kvm9")
    assert told.value.hint == "openstack network agent list --host kvm9"
    world.driver.unbind(world.records, world.instance, world.ports[0], "kvm9")
    assert world.everything == before


def test_a_port_of_a_device_of_the_host_is_refused_and_named(world: World) -> None:
    mac = next(addresses)
    port = Port(mac=mac, kind="bridge", source="br-int")
    world.uuids.append(world.stand.add_port(mac, world.instance, "kvm1", vnic_type="direct"))
    before = world.everything
    sentence = f"port {mac} cannot be moved to kvm2: its VNIC type is direct: it is a device of the host"
    assert world.driver.destination_problems(world.instance, [*world.ports, port]) == [sentence]
    with pytest.raises(PortNotMovable, match="VNIC type is direct"):
        world.driver.reserve(world.records, world.instance, port, "kvm2")
    assert world.everything == before


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"owner": "network:dhcp"}, "its owner is 'network:dhcp'"),
        ({"profile": {"pci_slot": "0000:01:00.1"}}, "names a PCI device"),
        ({"profile": {"allocation": {"a": "b"}}}, "allocated in Placement"),
    ],
)
def test_a_port_that_no_other_host_can_have_is_refused(
    world: World, facts: dict[str, Any], reason: str
) -> None:
    mac = next(addresses)
    world.stand.add_port(mac, world.instance, "kvm1", **facts)
    (problem,) = world.driver.destination_problems(world.instance, [Port(mac=mac, kind="bridge", source="b")])
    assert reason in problem


def test_an_address_that_neutron_does_not_know_or_gives_to_another_server_is_refused(world: World) -> None:
    mac, other = next(addresses), str(uuid.uuid4())
    port = Port(mac=mac, kind="bridge", source="br-int")
    (problem,) = world.driver.destination_problems(world.instance, [port])
    assert "0 ports of Neutron are the server's" in problem
    world.stand.add_port(mac, other, "kvm1")
    (problem,) = world.driver.destination_problems(world.instance, [port])
    assert problem.endswith(f"one belongs to {other}")
    assert problem.hint == f"openstack port list --mac-address {mac}"


def test_a_port_that_is_bound_to_another_host_than_the_server_is_on_is_refused(world: World) -> None:
    mac = next(addresses)
    found = world.stand.add_port(mac, world.instance, "kvm2")
    with pytest.raises(PortNotMovable, match="it is bound to kvm2, and the server is on kvm1") as told:
        world.driver.reserve(world.records, world.instance, Port(mac, "bridge", "br-int"), "kvm2")
    assert told.value.hint == f"openstack port set --host kvm1 {found}"


def test_a_binding_that_somebody_else_has_made_there_is_refused_and_left(world: World) -> None:
    world.stand.service.add_binding(world.uuids[0], "kvm2", "normal", {})
    before = world.everything
    with pytest.raises(PortNotMovable, match="a binding to kvm2 already, which this migration has not made"):
        world.reserve()
    world.unbind()
    assert world.everything == before


def test_a_bridge_that_the_destination_lacks_is_refused_before_the_guest_is_touched(world: World) -> None:
    before = world.everything
    bare = NeutronPorts(world.stand.service, "kvm2", list, lambda _: False)
    with pytest.raises(PortNotMovable, match="kvm2 has no bridge br-int"):
        bare.reserve(world.records, world.instance, world.ports[0], "kvm2")
    world.unbind()
    assert world.everything == before


def test_a_port_that_goes_while_the_server_moves_fails_it_and_does_not_hold_up_the_undo(world: World) -> None:
    world.reserve()
    world.stand.remove_port(world.uuids[0])
    with pytest.raises(PortBindingFailed, match="it is gone from Neutron"):
        world.bind()
    world.unbind()
    assert world.places == [{}, {"kvm1": True}]


def test_a_port_that_goes_before_the_confirmation_does_not_hold_it_up(world: World) -> None:
    world.reserve()
    world.bind()
    world.stand.remove_port(world.uuids[0])
    world.settle()
    assert world.places == [{}, {"kvm2": True}]


def test_the_only_active_binding_is_never_dropped(world: World) -> None:
    world.reserve()
    world.bind()
    world.stand.service.activate(world.uuids[0], "kvm1")
    with pytest.raises(ForeignObject, match=r"what port .* of Neutron is bound to"):
        world.settle()
    assert world.places[0] == {"kvm1": True, "kvm2": False}


def test_a_port_that_lost_its_bindings_gets_the_sources_back(world: World) -> None:
    before = world.everything
    world.reserve()
    world.bind()
    for host in ("kvm1", "kvm2"):
        world.stand.service.drop_binding(world.uuids[0], host)
    world.unbind()
    assert world.everything == before


@pytest.mark.parametrize("call", ["add_binding", "activate"])
def test_a_change_whose_answer_was_lost_is_made_once(world: World, call: str) -> None:
    before = world.everything
    world.stand.lose_next_answer(call)
    for _ in range(2):
        with suppress(CloudServiceFailed):
            world.bind()
    assert world.places == [{"kvm1": False, "kvm2": True}] * 2
    world.unbind()
    assert world.everything == before


@pytest.mark.parametrize("call", ["activate", "move", "drop_binding"])
def test_an_undo_whose_answer_was_lost_is_undone_once(world: World, call: str) -> None:
    before = world.everything
    world.bind()
    world.stand.lose_next_answer(call)
    for _ in range(2):
        with suppress(ServerUnreachable):
            world.unbind()
    assert world.everything == before


@pytest.mark.parametrize("call", ["port", "add_binding", "activate"])
def test_a_neutron_that_stays_away_fails_the_step_and_postpones_the_undo(world: World, call: str) -> None:
    before = world.everything
    world.stand.fail_next(call, 1)
    with pytest.raises(CloudServiceFailed, match="Neutron failed"):
        world.bind()
    world.unbind()
    assert world.everything == before
    world.bind()
    world.stand.fail_next("port", 1)
    with pytest.raises(ServerUnreachable):
        world.unbind()
    world.unbind()
    assert world.everything == before


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
def test_a_worker_that_dies_at_any_change_is_carried_on_and_undone(world: World, done: bool) -> None:
    before = world.everything
    for number in itertools.count(1):
        mortal = Mortal(world.stand.service, CHANGES, number, done=done)
        with suppress(Killed):
            for port in world.ports:
                driver(mortal).bind(world.records, world.instance, port, "kvm2")
        if number % 2:
            world.bind()
            assert world.places == [{"kvm1": False, "kvm2": True}] * 2
        if mortal.left > 0:
            break
        world.unbind()
        assert world.everything == before, f"change {number}"
    assert number == 5, "two ports, each with a binding that is made and made active"
    world.bind()
    for number in itertools.count(1):
        mortal = Mortal(world.stand.service, CHANGES, number, done=done)
        with suppress(Killed):
            for port in world.ports:
                driver(mortal).unbind(world.records, world.instance, port, "kvm2")
        world.unbind()
        assert world.everything == before, f"change {number}"
        if mortal.left > 0:
            break
        world.bind()
    assert number == 7, "two ports, each made active, bound as it was, and left by the destination"


def test_a_leg_that_was_passed_over_changes_nothing(world: World) -> None:
    world.reserve()
    before = world.everything
    with world.database.transaction() as session:
        fence.raise_fence(session, world.records.migration, 2)
    for step in (world.bind, world.unbind):
        with pytest.raises(Fenced):
            step()
    assert world.everything == before


def test_a_port_with_one_place_is_moved_and_moved_back(world: World) -> None:
    world.stand.forget_extension()
    before = world.everything
    world.reserve()
    assert world.everything == before
    for _ in range(2):
        world.bind()
    assert world.places == [{"kvm2": True}] * 2
    for _ in range(2):
        world.unbind()
    assert world.everything == before
    world.bind()
    world.settle()
    assert world.places == [{"kvm2": True}] * 2


def test_a_port_with_one_place_that_cannot_be_there_fails_and_is_moved_back(world: World) -> None:
    world.stand.forget_extension()
    before = world.everything
    with pytest.raises(PortBindingFailed, match="Neutron has bound it to kvm9: binding_failed"):
        world.driver.bind(world.records, world.instance, world.ports[0], "kvm9")
    world.driver.unbind(world.records, world.instance, world.ports[0], "kvm9")
    assert world.everything == before


def test_the_definition_names_the_bridge_that_neutron_names(world: World) -> None:
    port = Port(world.ports[0].mac, "bridge", "br-elsewhere")
    assert world.driver.mapping(world.instance, [port]) == {}
    world.reserve()
    assert world.driver.mapping(world.instance, [port]) == {"bridge:br-elsewhere": "bridge:br-int"}
    assert world.driver.mapping(world.instance, world.ports) == {}


def test_interfaces_of_which_neutron_knows_nothing_are_left_alone(world: World) -> None:
    user = Port(mac="52:54:00:00:00:01", kind="user", source=None)
    assert world.driver.destination_problems(world.instance, [user]) == []
    for step in (world.driver.reserve, world.driver.bind, world.driver.unbind):
        step(world.records, world.instance, user, "kvm2")


def test_a_binding_that_leads_elsewhere_is_named(world: World) -> None:
    at_home = driver(world.stand.service, "kvm1")
    assert at_home.astray(world.instance, world.ports, "kvm1") == []
    world.stand.service.add_binding(world.uuids[1], "kvm2", "normal", {})
    (found,) = at_home.astray(world.instance, world.ports, "kvm1")
    assert found.port == world.uuids[1]
    assert found.text == f"port {world.ports[1].mac} has a binding to kvm2"


def test_ports_that_are_bound_here_and_not_up_are_announced(world: World) -> None:
    at_home = driver(world.stand.service, "kvm1")
    assert world.driver.announced(world.instance, world.ports) == {}
    world.reserve()
    assert world.driver.announced(world.instance, world.ports) == {}
    world.bind()
    announced = dict(zip(world.uuids, (port.mac for port in world.ports), strict=True))
    assert world.driver.announced(world.instance, world.ports) == announced
    assert at_home.announced(world.instance, world.ports) == {}
    plain = Port(mac=world.ports[0].mac, kind="user", source=None)
    assert world.driver.announced(world.instance, [plain, replace(plain, kind="bridge", mac="none")]) == {}


# -- the service itself -----------------------------------------------------------------------------------


def test_a_service_loses_a_port_whose_only_binding_is_dropped_until_it_has_another(world: World) -> None:
    service, uuid = world.stand.service, world.uuids[0]
    service.drop_binding(uuid, "kvm1")
    found = service.port(uuid)
    assert found is not None and found.active is None
    service.add_binding(uuid, "kvm1", "normal", {})
    assert world.places[0] == {"kvm1": True}


def test_a_service_leaves_unbound_what_it_makes_active_again(world: World) -> None:
    service, uuid = world.stand.service, world.uuids[0]
    service.add_binding(uuid, "kvm2", "normal", {})
    for host in ("kvm2", "kvm2", "kvm1"):
        service.activate(uuid, host)
    found = service.port(uuid)
    assert found is not None and found.active is not None
    assert (found.active.host, found.active.vif_type) == ("kvm1", "unbound")
    service.move(uuid, "kvm1", {})
    found = service.port(uuid)
    assert found is not None and found.active is not None and found.active.vif_type == "ovs"


def test_a_service_makes_no_binding_to_a_host_that_cannot_bind(world: World) -> None:
    before = world.everything
    with pytest.raises(CannotBind):
        world.stand.service.add_binding(world.uuids[0], "kvm9", "normal", {})
    assert world.everything == before
