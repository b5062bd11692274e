"""Claims in memory, for tests and benchmarks."""

from __future__ import annotations

from oslo_config import cfg
from sqlalchemy.orm import Session

from hostler.drivers.failures import Failures
from hostler.records.fence import FencedRecords
from hostler.records.hosts import Amounts


class FakeClaims(Failures):
    """Claims on hosts that have room for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[tuple[str, str], Amounts] = {}  #: by migration and host

    def claim(self, records: FencedRecords, host: str, need: Amounts) -> None:
        """Hold *need*."""
        self._meet("claim")
        self.held[records.migration, host] = need

    def drop(self, records: FencedRecords, host: str) -> None:
        """Let go of it."""
        self._meet("drop")
        self.held.pop((records.migration, host), None)

    def swap(self, session: Session, migration: str, from_host: str, to_host: str, need: Amounts) -> None:
        """Hold *need* on *to_host* instead."""
        self._meet("swap")
        self.held.pop((migration, from_host), None)
        self.held[migration, to_host] = need


def from_conf(_conf: cfg.ConfigOpts) -> FakeClaims:
    """Make the driver of the settings."""
    return FakeClaims()
