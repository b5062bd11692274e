"""A Placement in memory, for tests: generations, capacities, and its habit of giving a crowd too much."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping

from hostler.drivers.claims.allocations import Allocation, ByProvider, ConcurrentUpdate, NoRoom, Room
from hostler.drivers.failures import Failures
from hostler.errors import CloudServiceRefused


class FakePlacementService(Failures):
    """The :class:`~hostler.drivers.claims.allocations.PlacementService` of a Placement that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.providers: dict[str, str] = {}  #: uuids by name
        self.totals: dict[str, dict[str, int]] = {}  #: by provider
        self.held: dict[str, Allocation] = {}
        self._lock = threading.Lock()
        self._crowd: threading.Barrier | None = None

    def expect_crowd(self, size: int) -> None:
        """Let the next *size* requests look at what is left before the first of them takes it, as Placement does."""
        self._crowd = threading.Barrier(size)

    def add_provider(self, name: str, **totals: int) -> str:
        """Make a host's provider (``VCPU=8``); return its uuid."""
        self.providers[name] = str(uuid.uuid4())
        self.totals[self.providers[name]] = dict(totals)
        return self.providers[name]

    def provider(self, name: str) -> str:
        """Return its uuid."""
        self._meet("provider")
        if name not in self.providers:
            raise CloudServiceRefused(service="Placement", reason=f"no resource provider is called {name!r}")
        return self.providers[name]

    def allocation(self, consumer: str) -> Allocation:
        """Return what it has."""
        self._meet("allocation")
        return self.held.get(consumer, Allocation())

    def allocate(self, wanted: Mapping[str, Allocation]) -> None:
        """Give it, if the generations are right and, as far as is seen, there is room."""
        self._meet("allocate")
        with self._lock:
            seen = self._used()
        self._gather()
        with self._lock:
            for consumer, one in wanted.items():
                if self.held.get(consumer, Allocation()).generation != one.generation:
                    raise ConcurrentUpdate(f"consumer {consumer} has another generation")
            self._refuse_full(wanted, seen)
            for consumer, one in wanted.items():
                self._put(consumer, one)
        self._meet("allocated")

    def room(self, provider: str) -> Mapping[str, Room]:
        """Return what it has and what of that is given away."""
        self._meet("room")
        with self._lock:
            used = self._used().get(provider, {})
            return {kind: Room(total, used.get(kind, 0)) for kind, total in self.totals[provider].items()}

    def consumers(self, provider: str) -> list[str]:
        """Return their uuids."""
        self._meet("consumers")
        with self._lock:
            return sorted(name for name, one in self.held.items() if provider in one.resources)

    def _gather(self) -> None:
        """Wait for the rest of the crowd, the first time that it comes."""
        if crowd := self._crowd:
            crowd.wait(60)
            self._crowd = None

    def _used(self) -> dict[str, dict[str, int]]:
        used: dict[str, dict[str, int]] = {}
        for one in self.held.values():
            _add(used, one.resources)
        return used

    def _refuse_full(self, wanted: Mapping[str, Allocation], seen: dict[str, dict[str, int]]) -> None:
        change: dict[str, dict[str, int]] = {}
        for consumer, one in wanted.items():
            _add(change, one.resources)
            _add(change, self.held.get(consumer, Allocation()).resources, -1)
        for provider, resources in change.items():
            for kind, more in resources.items():
                used, total = seen.get(provider, {}).get(kind, 0), self.totals[provider].get(kind, 0)
                if more > 0 and used + more > total:
                    raise NoRoom(f"{kind} of {provider}: {used} of {total} used, {more} more wanted")

    def _put(self, consumer: str, one: Allocation) -> None:
        if not one.resources:
            self.held.pop(consumer, None)
            return
        generation = 0 if one.generation is None else one.generation + 1
        self.held[consumer] = Allocation(one.resources, generation, one.project, one.user, one.kind)


def _add(total: dict[str, dict[str, int]], resources: ByProvider, sign: int = 1) -> None:
    for provider, amounts in resources.items():
        mine = total.setdefault(provider, {})
        for kind, amount in amounts.items():
            mine[kind] = mine.get(kind, 0) + sign * amount
