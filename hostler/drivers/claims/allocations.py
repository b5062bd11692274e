"""What hostler asks of Placement, and how Placement tells it: consumers, and what of which provider they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from hostler.records.hosts import GIB, Amounts

#: Amounts by class of resource (``VCPU``, ``MEMORY_MB``, ``DISK_GB``, ...).
Resources = Mapping[str, int]
#: What a consumer has of each provider, by the providers' uuids.
ByProvider = Mapping[str, Resources]

#: A class of resource, how it is called in sentences, and its unit.
KNOWN = {"VCPU": ("vCPUs", "of them"), "MEMORY_MB": ("memory", "MiB"), "DISK_GB": ("disk", "GiB")}


class ConcurrentUpdate(Exception):
    """Somebody changed one of the consumers or providers meanwhile: read again. Nothing was changed."""


class NoRoom(Exception):
    """Placement says that a provider has not that much left. Nothing was changed."""


@dataclass(frozen=True)
class Allocation:
    """What a consumer has."""

    resources: ByProvider = field(default_factory=dict)
    generation: int | None = None  #: changes with every change of it; None: it has nothing
    project: str = "hostler"
    user: str = "hostler"
    kind: str = "INSTANCE"  #: ``INSTANCE`` or ``MIGRATION``

    def having(self, resources: ByProvider) -> Allocation:
        """Return the same consumer with other resources."""
        return replace(self, resources=resources)


@dataclass(frozen=True)
class Room:
    """What a provider has of one class of resource, and what of that is given away."""

    capacity: int
    used: int


class PlacementService(Protocol):
    """Placement's own calls. Each may raise :class:`~hostler.errors.ServerUnreachable`, done or not."""

    def provider(self, name: str) -> str:
        """Return the uuid of the resource provider called *name*.

        :class:`~hostler.errors.CloudServiceRefused` if there is none.
        """

    def allocation(self, consumer: str) -> Allocation:
        """Return what *consumer* has; its generation is None if it has nothing."""

    def allocate(self, wanted: Mapping[str, Allocation]) -> None:
        """Give every consumer of *wanted* exactly that, all of them or none.

        :class:`ConcurrentUpdate` unless each has the generation it is given with, and :class:`NoRoom` if a
        provider is full; that it is not may be wrong where several ask at once.
        """

    def room(self, provider: str) -> Mapping[str, Room]:
        """Return what *provider* has, by class of resource."""

    def consumers(self, provider: str) -> list[str]:
        """Return who has anything of *provider*."""


def of_amounts(amounts: Amounts) -> dict[str, int]:
    """Return *amounts* as Placement counts them: what begins a GiB of disk takes it."""
    disk_gb = -(-amounts.disk_bytes // GIB)
    found = {"VCPU": amounts.vcpus, "MEMORY_MB": amounts.memory_mb, "DISK_GB": disk_gb}
    return {kind: amount for kind, amount in found.items() if amount}


def added(one: ByProvider, other: ByProvider) -> dict[str, dict[str, int]]:
    """Return the sum of both."""
    total = {provider: dict(resources) for provider, resources in one.items()}
    for provider, resources in other.items():
        mine = total.setdefault(provider, {})
        for kind, amount in resources.items():
            mine[kind] = mine.get(kind, 0) + amount
    return total
