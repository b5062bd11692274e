"""What hostler asks of whatever connects a server's interfaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hostler.objects import Port, Record
from hostler.records.fence import FencedRecords


@dataclass(frozen=True)
class Astray(Record):
    """A binding that leads elsewhere than where its server is."""

    port: str  #: as its service calls it
    text: str  #: a sentence about it
    command: str  #: what shows it


class Ports(Protocol):
    """The network side of one host. Every call is idempotent."""

    def sources(self) -> list[str]:
        """Return what an interface can be plugged into on this host, by the names that arriving servers ask for.

        ``bridge:br0``, ``network:default``. A server that asks for another is refused by
        :meth:`destination_problems`.
        """

    def destination_problems(self, instance: str, ports: Sequence[Port]) -> list[str]:
        """Return, as sentences, why this host could not connect *ports*: a bridge or network it lacks."""

    def as_asked(self, network_map: Mapping[str, str]) -> Ports:
        """Return this driver for a request that says what sources are called here: :mod:`hostler.networks`.

        What it says goes before what the host's settings say, and is that host's own name.
        """

    def mapping(self, instance: str, ports: Sequence[Port]) -> dict[str, str]:
        """Return what each source is called here: ``bridge:br0`` -> ``bridge:br1``; only what differs."""

    def reserve(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Let the port have a place on *host*, inactive until :meth:`bind`; :meth:`unbind` undoes both.

        :class:`hostler.errors.PortNotMovable` if that cannot be.
        """

    def bind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Make *host* the active place of the port; the binding it had stays, inactive.

        :class:`hostler.errors.PortBindingFailed` if that cannot be.
        """

    def unbind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Undo :meth:`bind`: drop what this migration bound, and make the old binding active again."""

    def announced(self, instance: str, ports: Sequence[Port]) -> dict[str, str]:
        """Return the ports that are not plugged in yet and of which their service will say when they are.

        MAC addresses, by what it calls the port then.
        """

    def settle(self, records: FencedRecords, instance: str, host: str) -> None:
        """Drop the bindings to every host but *host*: the migration is confirmed."""

    def astray(self, instance: str, ports: Sequence[Port], host: str) -> list[Astray]:
        """Return which bindings of a server on *host* lead elsewhere, where the records do not say so."""
