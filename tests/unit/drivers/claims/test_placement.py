"""Claims in a Placement that lives in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from hostler.drivers.claims.allocations import Allocation
from hostler.drivers.claims.placement_fake import FakePlacementService
from hostler.errors import ServerUnreachable
from tests.support.contracts.placement import *  # noqa: F403 - the tests are the module's
from tests.support.contracts.placement import TOTALS

AWAY = ServerUnreachable(what="Placement", where="memory", reason="it is away")


@dataclass
class InMemory:
    """A :class:`~tests.support.contracts.placement.Stand`."""

    service: FakePlacementService

    def provider(self, host: str) -> str:
        return self.service.providers[host]

    def lose_next_answer(self) -> None:
        self.service.fail_next("allocated", AWAY)

    def expect_crowd(self, size: int) -> None:
        self.service.expect_crowd(size)

    def fail_next(self, call: str, times: int) -> None:
        self.service.fail_next(call, AWAY, times)


@pytest.fixture
def placement() -> InMemory:
    service = FakePlacementService()
    for host, totals in TOTALS.items():
        service.add_provider(host, **totals)
    return InMemory(service)


def test_it_gives_a_crowd_too_much_as_the_real_one_does() -> None:
    service = FakePlacementService()
    wanted = {service.add_provider("kvm1", VCPU=1): {"VCPU": 1}}
    service.expect_crowd(2)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda consumer: service.allocate({consumer: Allocation(wanted)}), "ab"))
    assert service.room(service.provider("kvm1"))["VCPU"].used == 2
