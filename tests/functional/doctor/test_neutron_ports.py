"""A binding of Neutron's that leads elsewhere is named, unless a migration needs it still."""

from __future__ import annotations

import pytest

from hostler.drivers.ports.neutron_fake import FakeNetworkService
from hostler.errors import ServerUnreachable
from tests.functional.doctor.conftest import Ward
from tests.functional.flows.test_neutron_ports import give_ports, port_of
from tests.support.world import World


@pytest.fixture
def service(world: World) -> FakeNetworkService:
    return give_ports(world, "kvm2")[1]


def test_a_stray_binding_is_named_with_its_server_and_left(ward: Ward, service: FakeNetworkService) -> None:
    assert ward.told() == []
    port = port_of(service)
    service.add_binding(port.id, "kvm2", "normal", {})
    sentence = (
        f"kvm1: port {port.mac} has a binding to kvm2, and server web1 is here, with no migration under way;"
        f" openstack port show {port.id}"
    )
    assert ward.told() == [sentence]
    ward.fix()
    assert ward.told() == [sentence]


def test_the_binding_that_waits_for_the_confirmation_is_none(
    ward: Ward, world: World, service: FakeNetworkService
) -> None:
    world.migrate("web1")
    assert [one.kind for one in ward.examine().findings if one.kind == "port-binding"] == []


def test_a_neutron_that_is_away_is_said(ward: Ward, service: FakeNetworkService) -> None:
    away = ServerUnreachable(what="Neutron", where="cloud lab", reason="it is away")
    service.fail_next("ports_of", away, times=20)
    (sentence,) = ward.told()
    assert sentence.startswith("kvm1: the ports of servers here were not looked at: Neutron does not answer")
