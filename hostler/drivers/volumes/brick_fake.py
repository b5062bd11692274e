"""Volumes that a host connects to itself, in memory, for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hostler.drivers.failures import Failures
from hostler.drivers.volumes.network import called
from hostler.errors import MigrationError, VolumeUnreachable
from hostler.objects import Volume


class FakeConnector(Failures):
    """The :class:`~hostler.drivers.volumes.connector.Connector` of a host that is not there.

    *appear*: makes, or with False removes, what a guest would open at a path.
    """

    def __init__(self, host: str, appear: Callable[[str, bool], None] = lambda _path, _there: None) -> None:
        super().__init__()
        self._host = host
        self._appear = appear
        self.connected: dict[str, str] = {}  #: by the volume's UUID: its path
        self.busy: set[str] = set()  #: UUIDs of those that somebody has open
        self.missing: str = ""  #: why this host connects nothing

    def problem(self, kind: str) -> str:
        """Return *missing*."""
        return self.missing

    def properties(self) -> Mapping[str, Any]:
        """Return a little."""
        return {"initiator": f"iqn.2026-01.test:{self._host}", "multipath": False, "os_type": "linux"}

    def connect(self, volume: Volume, connection: Mapping[str, Any]) -> str:
        """Connect it at a path of this host's own."""
        self._meet("connect")
        if self.missing:
            raise VolumeUnreachable(volume=called(volume), host=self._host, reason=self.missing)
        path = f"/dev/disk/{self._host}/{volume.serial}"
        self.connected[volume.serial or ""] = path
        self._appear(path, True)
        self._meet("connect done")
        return path

    def disconnect(self, volume: Volume, connection: Mapping[str, Any], path: str) -> None:
        """Let go of it, unless it is *busy*."""
        self._meet("disconnect")
        serial = volume.serial or ""
        if serial in self.busy:
            raise MigrationError(f"volume {called(volume)} is still in use on {self._host}")
        if there := self.connected.pop(serial, None):
            self._appear(there, False)
        self._meet("disconnect done")
