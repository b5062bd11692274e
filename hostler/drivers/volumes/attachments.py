"""What hostler asks of Cinder, and how Cinder tells it: volumes, and by which attachments their servers have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Attachment:
    """One place of a volume. It is empty until it has the connector of a host."""

    id: str
    volume: str
    server: str | None
    status: str  #: ``reserved``, ``attaching``, ``attached``, ``error_attaching``
    mode: str | None = None  #: ``rw``, ``ro``; None: whatever the volume allows
    host: str | None = None  #: of its connector; told of those alone that are complete, and to administrators
    device: str | None = None  #: what the guest is said to call it, told as *host* is
    #: how that host reaches it, as Cinder's drivers say; may hold a password
    connection: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def empty(self) -> bool:
        """Whether it only keeps a place."""
        return self.status == "reserved" and not self.connection


@dataclass(frozen=True)
class BlockVolume:
    """A volume as Cinder has it."""

    id: str
    status: str  #: ``available``, ``reserved``, ``in-use``, ``error``, ...
    multiattach: bool = False
    encrypted: bool = False
    attachments: Sequence[Attachment] = ()

    def of(self, server: str) -> list[Attachment]:
        """Return how a server has it."""
        return [one for one in self.attachments if one.server == server]


class VolumeService(Protocol):
    """Cinder's own calls.

    Each may raise :class:`~hostler.errors.ServerUnreachable`, done or not, and
    :class:`~hostler.errors.CloudServiceRefused`.
    """

    def volume(self, uuid: str) -> BlockVolume | None:
        """Return the volume; None if it is gone."""

    def attachments_of(self, server: str) -> list[Attachment]:
        """Return the attachments of a server to any volume, without *host* and *device*."""

    def reserve(self, uuid: str, server: str, mode: str | None) -> None:
        """Make an empty attachment of the volume, one more each time; refused if another server has it."""

    def connect(self, attachment: str, connector: Mapping[str, Any]) -> None:
        """Give it the connector of a host, which opens the volume to it; refused while another has one."""

    def complete(self, attachment: str) -> None:
        """Say that it is used. Cinder takes that of an empty one, too, and then believes in what is not there."""

    def drop(self, attachment: str) -> None:
        """Drop it, whatever it is; nothing if it is gone. A volume whose last one goes is anybody's."""
