"""A source file on its way: which blocks are left, which have arrived, and whether it has stayed the same."""

from __future__ import annotations

import os
import stat
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler import errors
from hostler.drivers.images import extents, manifest
from hostler.objects import CopyProgress, Export, ImageDigest

#: The rate shown is that of the last few seconds.
RATE_WINDOW_S = 5.0
_HASH_BYTES = 32


class Outgoing:
    """One export's source. A *slot* is a number in the list of blocks that have to be sent."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self.path = export.source
        with self.reading():
            self.fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._found = os.fstat(self.fd)
            self.size_bytes = self._check_kind()
            with self.reading():
                self.blocks, self.allocated_bytes = extents.data_blocks(self.fd, self.size_bytes)
        except BaseException:
            os.close(self.fd)
            raise
        self.lock = threading.Lock()
        self.workers = 0
        self.surveyed = False
        self.done_bytes = 0
        self._stale: array[int] = array("Q")
        self._prepare()
        self._finishing = False
        self._samples: deque[tuple[float, int]] = deque()

    def close(self) -> None:
        """Let go of the source."""
        os.close(self.fd)

    def _check_kind(self) -> int:
        if not stat.S_ISREG(self._found.st_mode):
            raise self.unreadable("it is not a regular file")
        size, room = self._found.st_size, self.export.size_bytes
        if size > room or (self.export.exact and size != room):
            raise self.unreadable(f"it has {size} bytes; the destination has been told {room}")
        return size

    def _prepare(self) -> None:
        self._hashes = bytearray(_HASH_BYTES * len(self.blocks))
        self._read = bytearray(len(self.blocks))
        self._next = 0
        self._settled = 0

    # -- which blocks -------------------------------------------------------------------------------------

    def survey(self, present: Iterable[tuple[int, int]]) -> None:
        """Learn which ranges hold data at the destination, before anything is sent. The lock is held."""
        stale = bytearray(-(-self.size_bytes // extents.BLOCK_BYTES))
        for begin, end in present:
            first, last = begin // extents.BLOCK_BYTES, (end - 1) // extents.BLOCK_BYTES
            stale[first : last + 1] = b"\1" * (last + 1 - first)
        if any(stale):
            wanted = bytearray(stale)
            for index in self.blocks:
                wanted[index] = 1
            self._stale = array("Q", (index for index, old in enumerate(stale) if old))
            self.blocks = array("Q", (index for index, want in enumerate(wanted) if want))
            self._prepare()
        self._is_stale = stale
        self.surveyed = True

    def stale(self, slot: int) -> bool:
        """Whether the destination held something in that block when the copy began."""
        return bool(self._is_stale[self.blocks[slot]])

    @property
    def waiting(self) -> int:
        """How many blocks nobody has taken."""
        return len(self.blocks) - self._next

    def take(self) -> int | None:
        """Return the next slot, or None where all are taken."""
        with self.lock:
            if self._next >= len(self.blocks):
                return None
            self._next += 1
            return self._next - 1

    def sent(self, slot: int, found: bytes | None, data_bytes: int) -> None:
        """Note what block *slot* was made of (None: zeros) and count its bytes, once."""
        with self.lock:
            begin = _HASH_BYTES * slot
            self._hashes[begin : begin + _HASH_BYTES] = found or bytes(_HASH_BYTES)
            if not self._read[slot]:
                self._read[slot] = 1
                self.done_bytes += data_bytes

    def settle(self, slots: int) -> None:
        """Note that so many blocks are on stable storage at the destination."""
        with self.lock:
            self._settled += slots

    def claim_finish(self) -> bool:
        """Return True, once, when every block is on stable storage: the caller sends the manifest."""
        with self.lock:
            mine = self.surveyed and self._settled == len(self.blocks) and not self._finishing
            self._finishing = self._finishing or mine
            return mine

    # -- what left ----------------------------------------------------------------------------------------

    def body(self) -> bytearray:
        """Return the manifest's body."""
        return manifest.body_from_arrays(self.blocks, self._hashes)

    def digest(self) -> ImageDigest:
        """Return what left; valid once all blocks are sent."""
        found = manifest.content_digest(self.size_bytes, [bytes(self.body())])
        return ImageDigest(self.path, self.size_bytes, self.allocated_bytes, found)

    def check_unchanged(self) -> None:
        """Raise :class:`hostler.errors.ImageTransferError` if the file is not what it was at the start."""
        with self.reading():
            now, named = os.fstat(self.fd), Path(self.path).lstat()
        if (named.st_dev, named.st_ino) != (self._found.st_dev, self._found.st_ino):
            raise self.unreadable("another file has taken its place during the copy")
        if now.st_size != self._found.st_size:
            verb = "grew" if now.st_size > self._found.st_size else "shrank"
            raise self.unreadable(
                f"it {verb} during the copy, from {self._found.st_size} to {now.st_size} bytes"
            )
        if (now.st_mtime_ns, now.st_ctime_ns) != (self._found.st_mtime_ns, self._found.st_ctime_ns):
            raise self.unreadable("it was changed during the copy")

    def failed(self, reason: str) -> errors.ImageTransferError:
        """Return the error that names this file."""
        return errors.ImageTransferError(path=self.path, reason=reason)

    def unreadable(self, reason: str) -> errors.ImageUnreadable:
        """Return the error that names this file and blames it."""
        return errors.ImageUnreadable(path=self.path, reason=reason)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn an :class:`OSError` into the error that names this file."""
        try:
            yield
        except OSError as error:
            raise self.unreadable(f"it cannot be read: {error.strerror}") from error

    def progress(self) -> CopyProgress:
        """Return how far it is. Called by one thread, a few times per second."""
        now, done = time.monotonic(), self.done_bytes
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (done - before) / (now - since) if now > since else 0.0
        return CopyProgress(self.export.name, self.path, done, self.allocated_bytes, rate)
