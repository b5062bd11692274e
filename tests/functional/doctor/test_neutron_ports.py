"""A binding of Neutron's that leads elsewhere is named, unless a migration needs it still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostler.drivers.ports.neutron_fake import FakeNetworkService
from hostler.errors import ServerUnreachable
from tests.functional.doctor.conftest import Ward
from tests.functional.flows.test_neutron_ports import give_ports, port_of
from tests.support.world import World


@pytest.fixture
def neutron(world: World) -> FakeNetworkService:
    return give_ports(world, "kvm2")[1]


@pytest.fixture
def ward(world: World, neutron: FakeNetworkService) -> Iterator[Ward]:
    made = Ward(world)
    yield made
    made.end()


def told(ward: Ward) -> list[str]:
    return [f"{one.host}: {one.text}; {one.command}" for one in ward.examine().findings]


def test_a_stray_binding_is_named_with_its_server_and_left(ward: Ward, neutron: FakeNetworkService) -> None:
    assert told(ward) == []
    port = port_of(neutron)
    neutron.add_binding(port.id, "kvm2", "normal", {})
    sentence = (
        f"kvm1: port {port.mac} has a binding to kvm2, and server web1 is here, with no migration under way;"
        f" openstack port show {port.id}"
    )
    assert told(ward) == [sentence]
    ward.fix()
    assert told(ward) == [sentence]


def test_the_binding_that_waits_for_the_confirmation_is_none(
    ward: Ward, world: World, neutron: FakeNetworkService
) -> None:
    world.migrate("web1")
    assert [one.kind for one in ward.examine().findings if one.kind == "port-binding"] == []


def test_a_neutron_that_is_away_is_said(ward: Ward, neutron: FakeNetworkService) -> None:
    away = ServerUnreachable(what="Neutron", where="cloud lab", reason="it is away")
    neutron.fail_next("ports_of", away, times=20)
    (sentence,) = told(ward)
    assert sentence.startswith("kvm1: the ports of servers here were not looked at: Neutron does not answer")
