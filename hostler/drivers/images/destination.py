"""The receiver as a copy sees it: connections to its exports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from hostler.drivers.images import ledger, unpacking
from hostler.drivers.images.link import Broken, Link, NoSuchExport
from hostler.drivers.images.outgoing import Outgoing
from hostler.objects import ReceiverAddress


class Destination:
    """Shared by a copy's threads; *key_file* is a directory with certificates where the address asks for them."""

    def __init__(self, address: ReceiverAddress, key_file: Path | None) -> None:
        self.address = address
        self._key_file = key_file
        self._lock = threading.Lock()
        self._links: set[Link] = set()

    def cut(self) -> None:
        """Wake whoever waits for it."""
        with self._lock:
            for link in self._links:
                link.cut()

    @contextmanager
    def connected(self, name: str, file: Outgoing) -> Iterator[Link]:
        """Hold a connection to an export, for the thread that is here, which :meth:`cut` can reach."""
        with self._held(Link(self.address, name, self._key_file, file.path)) as link:
            yield link

    @contextmanager
    def ledger(self, file: Outgoing) -> Iterator[Link | None]:
        """Hold a connection to a file's ledger; None where the receiver, of an earlier version, keeps none."""
        with ExitStack() as opened:
            link = None
            with suppress(NoSuchExport):
                link = opened.enter_context(self.connected(f"{file.export.name}.ledger", file))
            yield link

    def boot(self, file: Outgoing) -> bytes:
        """Return what tells the run of the destination's kernel; nothing where the receiver does not say."""
        with suppress(NoSuchExport), self.connected("boot", file) as link:
            return link.read(ledger.STAMP_BYTES, 0)
        return b""

    @contextmanager
    def packed(self, file: Outgoing) -> Iterator[Link]:
        """Hold a connection that takes packed blocks; :class:`Broken` where the receiver has none for now."""
        with self.connected(unpacking.EXPORT, file) as link:
            (port,) = unpacking.PORT.unpack(link.read(unpacking.PORT.size, 0))
        if not 0 < port < 1 << 16:
            raise Broken("the destination unpacks nothing")
        address = replace(self.address, port=port)
        with self._held(Link(address, file.export.name, self._key_file, file.path)) as link:
            yield link

    @contextmanager
    def _held(self, link: Link) -> Iterator[Link]:
        with self._lock:
            self._links.add(link)
        try:
            link.connect()
            yield link
        finally:
            link.close()
            with self._lock:
                self._links.discard(link)
