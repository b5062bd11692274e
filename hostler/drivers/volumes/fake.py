"""Volumes that are nowhere, for tests."""

from __future__ import annotations

from oslo_config import cfg

from hostler.drivers.failures import Failures
from hostler.errors import VolumeUnreachable
from hostler.objects import Volume


class FakeVolumes(Failures):
    """Volumes that this host reaches unless *unreachable* says otherwise."""

    def __init__(self, host: str = "fake") -> None:
        super().__init__()
        self.host = host
        self.connected: set[str] = set()  #: names of the volumes
        self.unreachable: dict[str, str] = {}  #: name of the volume: why

    def destination_problems(self, volume: Volume) -> list[str]:
        """Return why it cannot be reached."""
        self._meet("destination_problems")
        reason = self.unreachable.get(volume.name)
        return [f"volume {volume.target} cannot be reached from {self.host}: {reason}"] if reason else []

    def connect(self, volume: Volume) -> None:
        """Connect it, unless that is to fail."""
        self._meet("connect")
        if reason := self.unreachable.get(volume.name):
            raise VolumeUnreachable(volume=volume.target, host=self.host, reason=reason)
        self.connected.add(volume.name)

    def disconnect(self, volume: Volume) -> None:
        """Let go of it, unless that is to fail."""
        self._meet("disconnect")
        self.connected.discard(volume.name)


def from_conf(conf: cfg.ConfigOpts) -> FakeVolumes:
    """Make the driver of the settings."""
    return FakeVolumes(conf.host)
