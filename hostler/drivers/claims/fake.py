"""Claims in memory, for tests and benchmarks."""

from __future__ import annotations

from oslo_config import cfg
from sqlalchemy.orm import Session

from hostler.drivers.claims import Places
from hostler.drivers.failures import Failures
from hostler.objects import Placement
from hostler.records.fence import FencedRecords
from hostler.records.hosts import Amounts


class FakeClaims(Failures):
    """Claims on hosts that have room for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[tuple[str, str], Amounts] = {}  #: by migration and host
        self.places: dict[tuple[str, str], Placement] = {}  #: by migration and host

    def claim(self, records: FencedRecords, host: str, need: Amounts, places: Places | None = None) -> None:
        """Hold *need*, and *places*."""
        self._meet("claim")
        if places is not None:
            mine = (records.migration, host)
            others = {key[0]: one for key, one in self.places.items() if key != mine and key[1] == host}
            if (chosen := places.choose(others)) is not None:
                self.places[mine] = chosen
        self.held[records.migration, host] = need

    def placement(self, records: FencedRecords, host: str) -> Placement | None:
        """Return what is held there."""
        return self.places.get((records.migration, host))

    def drop(self, records: FencedRecords, host: str) -> None:
        """Let go of it."""
        self._meet("drop")
        self.held.pop((records.migration, host), None)
        self.places = {key: one for key, one in self.places.items() if key[0] != records.migration}

    def settle(self, records: FencedRecords, host: str) -> None:
        """Let go of it."""
        self.drop(records, host)

    def consumers(self, host: str) -> list[str]:
        """Return nothing."""
        return []

    def swap(self, session: Session, migration: str, from_host: str, to_host: str, need: Amounts) -> None:
        """Hold *need* on *to_host* instead."""
        self._meet("swap")
        self.held.pop((migration, from_host), None)
        self.held[migration, to_host] = need


def from_conf(_conf: cfg.ConfigOpts) -> FakeClaims:
    """Make the driver of the settings."""
    return FakeClaims()
