"""What hostler asks of whatever gives a server disks that are not files of its host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hostler.objects import Domain, Record, Volume
from hostler.records.fence import FencedRecords


@dataclass(frozen=True)
class Astray(Record):
    """An attachment of a server that it does not use, or that leads elsewhere than where the server is."""

    attachment: str  #: as its service calls it; the volume's own name where it has none
    text: str  #: a sentence about it
    command: str  #: what drops it, or tells more


class Volumes(Protocol):
    """The volumes as one host reaches them. Every call is idempotent."""

    def recognise(self, domain: Domain) -> Domain:
        """Return *domain* with those of its disks among its volumes that this host has connected. It only reads."""

    def destination_problems(self, domain: Domain) -> list[str]:
        """Return, as sentences, why this host could not use what *domain* has of volumes. It only reads."""

    def reserve(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Keep a place of the volume for the migration, beside the one that its server has; :meth:`release` undoes it.

        :class:`hostler.errors.VolumeNotMovable` if that cannot be.
        """

    def release(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Give up what :meth:`reserve` has kept and nothing uses."""

    def connect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """Make *volume* usable here; :class:`hostler.errors.VolumeUnreachable` if it cannot be.

        *undoing*: it was before. A service that is away is :class:`hostler.errors.ServerUnreachable` then, and
        waited for; otherwise the step fails.
        """

    def disconnect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """Let go of *volume*: when it returns, no process of this host holds it; it is the server's still."""

    def restore(self, records: FencedRecords, instance: str, volumes: Sequence[Volume]) -> bool:
        """Connect again, after a reboot, those *volumes* that this host has by this migration; tell if there are any.

        :meth:`mapping` may tell of others than before.
        """

    def mapping(self, records: FencedRecords, volumes: Sequence[Volume]) -> Mapping[str, Volume]:
        """Return what a volume is on this host, by the guest's name for it; only what differs."""

    def astray(self, domain: Domain, host: str) -> list[Astray]:
        """Return the attachments of a server on *host* that it does not use, or that lead elsewhere."""
