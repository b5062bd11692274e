"""What hostler asks of OVN, and how OVN tells it: logical ports, and which chassis each asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class LogicalPort:
    """A logical switch port of OVN's northbound database."""

    name: str  #: what the interface on a host calls it: ``iface-id``
    kind: str = ""  #: empty for a guest's; ``router``, ``localnet``, ...
    addresses: tuple[str, ...] = ()  #: ``fa:16:3e:00:00:01 10.0.0.5``, ``dynamic``, ``unknown``, ...
    asks_for: str = ""  #: ``options:requested-chassis``: ``kvm1``, ``kvm1,kvm2``; empty for none

    def takes(self, mac: str) -> bool:
        """Tell whether what has that address may be plugged in there."""
        words = [address.split() for address in self.addresses]
        return any(
            word and (word[0] in ("unknown", "dynamic") or mac.lower() in _lowered(word)) for word in words
        )


class Moved(Exception):
    """A port asks for something else than it was thought to; the text says for what. Nothing was changed."""


class Northbound(Protocol):
    """OVN's own calls; asking twice is asking once.

    Each may raise :class:`~hostler.errors.ServerUnreachable`, done or not, and
    :class:`~hostler.errors.CloudServiceRefused`.
    """

    def knows(self, chassis: str) -> bool:
        """Tell whether there is a chassis of that name or hostname."""

    def several(self) -> bool:
        """Tell whether a port may ask for several chassis (OVN 22.06): an older one would find it none."""

    def port(self, name: str) -> LogicalPort | None:
        """Return the port; None if there is none."""

    def ask_for(self, name: str, chassis: str, instead_of: str) -> None:
        """Let it ask for *chassis*, if it asks for *instead_of*; :class:`Moved` if it asks for anything else."""


def _lowered(words: list[str]) -> list[str]:
    return [word.lower() for word in words]
