"""What the drivers of ports and volumes ask libvirt, over connections of their own. They change nothing.

One that may only read is not told whether a secret has a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from hostler.drivers import secrets
from hostler.errors import ServerUnreachable
from hostler.objects import Secret


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

    def secret_problem(self, secret: Secret) -> str:
        """Return, as a sentence with what to type, why no guest could use *secret*, or nothing."""
        with self._connection() as connection:
            return secrets.problem(connection, secret)

    def secret_value(self, secret: Secret) -> bytes | None:
        """Return what *secret* keeps; None if it is not there, empty, or private to libvirt."""
        with self._connection() as connection:
            return secrets.value(connection, secret)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            connection = libvirt.open(self.uri)
            try:
                yield connection
            finally:
                connection.close()
        except libvirt.libvirtError as error:
            raise ServerUnreachable(what="libvirt", where=self.uri, reason=str(error)) from error
