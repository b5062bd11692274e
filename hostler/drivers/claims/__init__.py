"""What hostler asks of whatever counts the resources of hosts."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy.orm import Session

from hostler.records.fence import FencedRecords
from hostler.records.hosts import Amounts


class Claims(Protocol):
    """Resources held for a migration, keyed by its uuid and the host. Every call is idempotent."""

    def claim(self, records: FencedRecords, host: str, need: Amounts) -> None:
        """Hold *need* on *host* for the migration of *records*.

        :class:`hostler.errors.ComputeResourcesUnavailable` or :class:`hostler.errors.HostDisabled` if it has
        not that much left; of two that race for the last place one gets it.
        :class:`hostler.errors.GroupAffinityViolation` if the policy of the server's group forbids it there; of
        two members that race one is refused.
        """

    def drop(self, records: FencedRecords, host: str) -> None:
        """Let go of what the migration holds on *host*; nothing if it holds nothing."""

    def swap(self, session: Session, migration: str, from_host: str, to_host: str, need: Amounts) -> None:
        """Hold *need* on *to_host* instead of *from_host*, in *session*'s transaction, room or not."""
