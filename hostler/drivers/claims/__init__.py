"""What hostler asks of whatever counts the resources of hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.orm import Session

from hostler.objects import Placement
from hostler.records.fence import FencedRecords
from hostler.records.hosts import Amounts


@dataclass(frozen=True)
class Places:
    """The CPUs and NUMA nodes of a server; *choose* gives none for one whose definition names none."""

    #: given what the servers of other migrations hold on the host, by their UUIDs, returns what this one is to have
    choose: Callable[[Mapping[str, Placement]], Placement | None]
    #: by host: what the server may have to come back to
    left: Mapping[str, Placement] = field(default_factory=dict)


class Claims(Protocol):
    """Resources held for a migration, keyed by its uuid and the host. Every call is idempotent."""

    def claim(self, records: FencedRecords, host: str, need: Amounts, places: Places | None = None) -> None:
        """Hold *need* on *host* for the migration of *records*.

        :class:`hostler.errors.ComputeResourcesUnavailable` or :class:`hostler.errors.HostDisabled` if it has
        not that much left; of two that race for the last place one gets it.
        :class:`hostler.errors.GroupAffinityViolation` if the policy of the server's group forbids it there; of
        two members that race one is refused.

        *places*: hold CPUs and NUMA nodes, too; of two that race no CPU is given to both. What its *choose*
        raises is passed on, and nothing is held.
        """

    def placement(self, records: FencedRecords, host: str) -> Placement | None:
        """Return the CPUs and NUMA nodes that the migration holds on *host*; None if it holds none."""

    def drop(self, records: FencedRecords, host: str) -> None:
        """Let go of what the migration holds on *host*, and of CPUs and NUMA nodes wherever it holds any."""

    def settle(self, records: FencedRecords, host: str) -> None:
        """Let go of what *host*, the source, kept for the way back: the migration is confirmed."""

    def consumers(self, host: str) -> list[str]:
        """Return who holds something of *host* where the records do not say it: servers and migrations, by uuid."""

    def swap(self, session: Session, migration: str, from_host: str, to_host: str, need: Amounts) -> None:
        """Hold *need* on *to_host* instead of *from_host*, in *session*'s transaction, room or not."""
