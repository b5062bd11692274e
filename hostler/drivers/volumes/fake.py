"""Volumes that are nowhere, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oslo_config import cfg

from hostler.drivers.failures import Failures
from hostler.drivers.volumes import Astray
from hostler.errors import VolumeUnreachable
from hostler.objects import Domain, Volume
from hostler.records.fence import FencedRecords


class FakeVolumes(Failures):
    """Volumes that this host reaches unless *unreachable* says otherwise."""

    def __init__(self, host: str = "fake") -> None:
        super().__init__()
        self.host = host
        self.connected: set[str] = set()  #: names of the volumes
        self.unreachable: dict[str, str] = {}  #: name of the volume: why

    def recognise(self, domain: Domain) -> Domain:
        """Return *domain* as it is: nothing is attached to the host."""
        return domain

    def destination_problems(self, domain: Domain) -> list[str]:
        """Return why they cannot be reached."""
        self._meet("destination_problems")
        why = {volume.target: self.unreachable.get(volume.name) for volume in domain.volumes}
        return [
            f"volume {target} cannot be reached from {self.host}: {reason}"
            for target, reason in why.items()
            if reason
        ]

    def reserve(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Do nothing, unless that is to fail."""
        self._meet("reserve")

    def release(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Do nothing, unless that is to fail."""
        self._meet("release")

    def connect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """Connect it, unless that is to fail."""
        self._meet("connect")
        if reason := self.unreachable.get(volume.name):
            raise VolumeUnreachable(volume=volume.target, host=self.host, reason=reason)
        self.connected.add(volume.name)

    def disconnect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """Let go of it, unless that is to fail."""
        self._meet("disconnect")
        self.connected.discard(volume.name)

    def restore(self, records: FencedRecords, instance: str, volumes: Sequence[Volume]) -> bool:
        """Return that nothing was: nothing is attached to the host."""
        return False

    def mapping(self, records: FencedRecords, volumes: Sequence[Volume]) -> Mapping[str, Volume]:
        """Return nothing: a volume is called the same everywhere."""
        return {}

    def astray(self, domain: Domain, host: str) -> list[Astray]:
        """Return nothing."""
        return []


def from_conf(conf: cfg.ConfigOpts) -> FakeVolumes:
    """Make the driver of the settings."""
    return FakeVolumes(conf.host)
