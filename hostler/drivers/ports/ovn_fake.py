"""An OVN in memory, for tests."""

from __future__ import annotations

from dataclasses import replace

from hostler.drivers.failures import Failures
from hostler.drivers.ports.northbound import LogicalPort, Moved


class FakeNorthbound(Failures):
    """The :class:`~hostler.drivers.ports.northbound.Northbound` of an OVN that is not there."""

    def __init__(self, *chassis: str) -> None:
        super().__init__()
        self.chassis = set(chassis)
        self.ports: dict[str, LogicalPort] = {}
        self.recent = True  #: whether a port may ask for several

    def lose_next(self, call: str, error: BaseException) -> None:
        """Let the next such change be made, and raise *error* then."""
        self.fail_next(f"{call} done", error)

    def knows(self, chassis: str) -> bool:
        """Tell whether it is there."""
        self._meet("knows")
        return chassis in self.chassis

    def several(self) -> bool:
        """Tell whether it is recent."""
        self._meet("several")
        return self.recent

    def port(self, name: str) -> LogicalPort | None:
        """Return it."""
        self._meet("port")
        return self.ports.get(name)

    def ask_for(self, name: str, chassis: str, instead_of: str) -> None:
        """Change it, if it is as it was."""
        self._meet("ask_for")
        found = self.ports.get(name, LogicalPort(name))
        if name not in self.ports or found.asks_for not in (chassis, instead_of):
            raise Moved(found.asks_for)
        self.ports[name] = replace(found, asks_for=chassis)
        self._meet("ask_for done")
