"""Locks in memory, for tests."""

from __future__ import annotations

from hostler.drivers.failures import Failures
from hostler.drivers.volumes.rbd import Lock
from hostler.objects import Volume


class FakeLocks(Failures):
    """The :class:`~hostler.drivers.volumes.rbd.Locks` of a Ceph that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, list[Lock]] = {}  #: by the name of the volume

    def of(self, volume: Volume) -> list[Lock]:
        """Return what *held* says."""
        self._meet("of")
        return list(self.held.get(volume.name, ())) if volume.protocol == "rbd" else []

    def breaking(self, volume: Volume, lock: Lock) -> str:
        """Return what would."""
        return f"rbd lock rm {volume.name} {lock.client}"
