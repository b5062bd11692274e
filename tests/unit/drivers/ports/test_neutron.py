"""Ports of a Neutron that lives in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from hostler.drivers.ports.neutron_fake import FakeNetworkService
from hostler.errors import ServerUnreachable
from tests.support.contracts.neutron import *  # noqa: F403 - the tests are the module's
from tests.support.contracts.neutron import World

AWAY = ServerUnreachable(what="Neutron", where="memory", reason="it is away")


@dataclass
class InMemory:
    """A :class:`~tests.support.contracts.neutron.Stand`."""

    service: FakeNetworkService

    def add_port(self, mac: str, server: str, host: str, **facts: Any) -> str:
        return self.service.add_port(mac, server, host, **facts).id

    def remove_port(self, uuid: str) -> None:
        del self.service.ports[uuid]

    def fail_next(self, call: str, times: int) -> None:
        self.service.fail_next(call, AWAY, times)

    def lose_next_answer(self, call: str) -> None:
        self.service.lose_next(call, AWAY)

    def forget_extension(self) -> None:
        self.service.extended = False


@pytest.fixture
def neutron() -> InMemory:
    return InMemory(FakeNetworkService("kvm1", "kvm2"))


def test_what_is_up_or_was_bound_with_a_bridge_of_its_own_is_not_announced(
    world: World, neutron: InMemory
) -> None:
    world.bind()
    service, (first, second) = neutron.service, world.uuids
    service.plug(first)
    hybrid = service.ports[second]
    bindings = [replace(one, details={"ovs_hybrid_plug": True}) for one in hybrid.bindings]
    service.ports[second] = replace(hybrid, bindings=bindings)
    assert world.driver.announced(world.instance, world.ports) == {}
    service.plug(first, up=False)
    assert world.driver.announced(world.instance, world.ports) == {first: world.ports[0].mac}
