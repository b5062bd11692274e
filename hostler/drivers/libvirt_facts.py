"""What the drivers of ports and volumes ask libvirt, over connections of their own that only read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from hostler.errors import ServerUnreachable


class LibvirtFacts:
    """The networks and secrets of one libvirt.

    A libvirt that does not answer is :class:`hostler.errors.ServerUnreachable`.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def networks(self) -> dict[str, bool]:
        """Return the name of each network, and whether it is active."""
        with self._connection() as connection:
            return {network.name(): bool(network.isActive()) for network in connection.listAllNetworks()}

    def secret_exists(self, uuid: str) -> bool:
        """Tell whether libvirt has a secret of that UUID."""
        with self._connection() as connection:
            return uuid.lower() in {secret.UUIDString() for secret in connection.listAllSecrets()}

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            connection = libvirt.openReadOnly(self.uri)
            try:
                yield connection
            finally:
                connection.close()
        except libvirt.libvirtError as error:
            raise ServerUnreachable(what="libvirt", where=self.uri, reason=str(error)) from error
