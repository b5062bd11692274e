"""What hostler asks of whatever connects volumes to a host, where QEMU does not open them by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hostler.objects import Volume

#: Words in the names of facts that nobody needs to let go of a volume, and that are nobody's business.
_SECRET = ("password", "secret", "keyring", "token", "dhchap")


class Connector(Protocol):
    """The volumes that one host connects. *connection*: what Cinder says of one, as it says it to that host."""

    def problem(self, kind: str) -> str:
        """Return why this host cannot connect volumes of that kind (``iscsi``, ``nfs``, ...), or nothing."""

    def properties(self) -> Mapping[str, Any]:
        """Return what Cinder's drivers are told of this host: its initiators, addresses, whether it has multipath."""

    def connect(self, volume: Volume, connection: Mapping[str, Any]) -> str:
        """Connect it, and return the path at which this host has it; one that is connected stays so.

        :class:`hostler.errors.VolumeUnreachable` if it cannot be.
        """

    def disconnect(self, volume: Volume, connection: Mapping[str, Any], path: str) -> None:
        """Flush what was written to it at *path*, and let go of it; nothing if it is not connected.

        An empty *path*: it was never told, so nobody can have written there.

        :class:`hostler.errors.MigrationError` if somebody has it open, or it cannot be flushed: it stays connected.
        """


def harmless(connection: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a connection may be written down: enough to let go of it."""
    return {key: value for key, value in connection.items() if not _is_secret(key)}


def unspoken(text: str, connection: Mapping[str, Any]) -> str:
    """Return *text* without the secrets of a connection."""
    for key, value in connection.items():
        if _is_secret(key) and isinstance(value, str) and value:
            text = text.replace(value, "***")
    return text


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET)
