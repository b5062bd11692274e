"""Ports of an OVN that lives in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from hostler.drivers.ports.northbound import LogicalPort
from hostler.drivers.ports.ovn_fake import FakeNorthbound
from hostler.errors import ServerUnreachable
from tests.support.contracts.ovn import *  # noqa: F403 - the tests are the module's

AWAY = ServerUnreachable(what="OVN_Northbound", where="memory", reason="it is away")


@dataclass
class InMemory:
    """A :class:`~tests.support.contracts.ovn.Stand`."""

    service: FakeNorthbound

    def add_port(self, name: str, mac: str, asks_for: str, **facts: str) -> None:
        self.service.ports[name] = LogicalPort(
            name, addresses=(f"{mac} 10.0.0.5",), asks_for=asks_for, **facts
        )

    def remove_port(self, name: str) -> None:
        del self.service.ports[name]

    def set_request(self, name: str, chassis: str) -> None:
        self.service.ports[name] = replace(self.service.ports[name], asks_for=chassis)

    def fail_next(self, call: str, times: int) -> None:
        self.service.fail_next(call, AWAY, times)

    def lose_next_answer(self, call: str) -> None:
        self.service.lose_next(call, AWAY)

    def grow_old(self) -> None:
        self.service.recent = False


@pytest.fixture
def ovn() -> InMemory:
    return InMemory(FakeNorthbound("kvm1", "kvm2"))


@pytest.mark.parametrize(
    ("addresses", "takes"),
    [
        (("FA:16:3E:00:00:01 10.0.0.5",), True),
        (("fa:16:3e:00:00:02", "fa:16:3e:00:00:01"), True),
        (("dynamic",), True),
        (("unknown",), True),
        (("fa:16:3e:00:00:02",), False),
        ((), False),
        (("",), False),
    ],
)
def test_what_a_port_takes_is_read_from_its_addresses(addresses: tuple[str, ...], takes: bool) -> None:
    assert LogicalPort("p", addresses=addresses).takes("fa:16:3e:00:00:01") is takes
