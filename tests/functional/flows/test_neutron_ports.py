"""A server whose port is Neutron's: bound to one host at a time, and after any failure as it was before."""

from __future__ import annotations

import dataclasses

import pytest

from hostler.drivers.ports.bindings import NetworkPort
from hostler.drivers.ports.neutron import NeutronPorts
from hostler.drivers.ports.neutron_fake import FakeNetworkService
from hostler.errors import MigrationError
from hostler.flows import shape_of
from tests.support.world import PORT_MAC, World, failing, step

STEPS = [one.name for one in shape_of("cold_migration")]
#: From the first that knows of ports to the last that is undone.
CONCERNED = STEPS[STEPS.index("ReservePorts") : STEPS.index("HandOver")]


def give_ports(world: World, *can_bind: str) -> tuple[str, FakeNetworkService]:
    """Make a server whose port is Neutron's; return its UUID, and Neutron."""
    server, service = world.add_server(), FakeNetworkService("kvm1", *can_bind)
    service.add_port(PORT_MAC, server, "kvm1")
    for name, host in world.hosts.items():
        ports = NeutronPorts(service, name, lambda: ["bridge:br0"], lambda _: True)
        host.drivers = dataclasses.replace(host.drivers, ports=ports)
    return server, service


def port_of(service: FakeNetworkService) -> NetworkPort:
    (port,) = service.ports.values()
    return port


def places(service: FakeNetworkService) -> dict[str, bool]:
    return {one.host: one.active for one in port_of(service).bindings}


@pytest.mark.parametrize("name", CONCERNED)
def test_whichever_step_fails_the_port_is_bound_as_it_was(world: World, name: str) -> None:
    _, service = give_ports(world, "kvm2")
    before = world.look(), port_of(service)
    with failing(step("cold_migration", name), MigrationError("on purpose"), when="after"):
        assert world.migrate("web1").outcome == "reverted"
    assert (world.look(), port_of(service)) == before


def test_a_host_that_cannot_bind_is_refused_before_the_guest_is_touched(world: World) -> None:
    server, service = give_ports(world)
    before = world.look(), port_of(service)
    migration = world.migrate("web1")
    assert migration.outcome == "refused"
    assert "Neutron cannot bind it there" in str(migration.error)
    assert (world.look(), port_of(service)) == before
    assert world.hosts["kvm1"].hypervisor.booted[server] == 1


def test_a_confirmed_server_has_its_port_there_alone_on_the_bridge_that_neutron_names(world: World) -> None:
    server, service = give_ports(world, "kvm2")
    world.migrate("web1")
    assert places(service) == {"kvm1": False, "kvm2": True}
    (port,) = world.hosts["kvm2"].hypervisor.describe(server).ports
    assert (port.kind, port.source) == ("bridge", "br-int")
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert places(service) == {"kvm2": True}


def test_a_server_that_goes_back_has_its_port_as_it_was(world: World) -> None:
    _, service = give_ports(world, "kvm2")
    before = port_of(service)
    world.migrate("web1")
    world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    world.run()
    assert port_of(service) == before
