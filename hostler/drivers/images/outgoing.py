"""A source file on its way: which blocks are left, which have arrived, and whether it has stayed the same."""

from __future__ import annotations

import os
import stat
import threading
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler import errors
from hostler.drivers import devices
from hostler.drivers.images import extents, ledger, manifest
from hostler.objects import CopyProgress, Export, ImageDigest

#: The rate shown is that of the last few seconds.
RATE_WINDOW_S = 5.0
_HASH_BYTES = 32
#: What an earlier attempt says of a block: the destination has what this very file holds; it has something known.
_ARRIVED, _KNOWN = 1, 2


class Outgoing:
    """One export's source. A *slot* is a number in the list of blocks that have to be sent."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self.path = export.source
        with self.reading():
            # The names of a device are links, as often as not.
            follow = 0 if export.block else os.O_NOFOLLOW
            self.fd = os.open(self.path, os.O_RDONLY | follow | os.O_NONBLOCK | os.O_CLOEXEC)
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
        self.sent_bytes = self.saved_bytes = 0
        self._recalled_bytes = 0
        self._prepare()
        self._finishing = False
        self._frame = 0
        self._samples: deque[tuple[float, int]] = deque()

    def close(self) -> None:
        """Let go of the source."""
        os.close(self.fd)

    def _check_kind(self) -> int:
        if self.export.block and not devices.is_block(self._found):
            raise self.unreadable("it is not a block device")
        if not self.export.block and not stat.S_ISREG(self._found.st_mode):
            raise self.unreadable("it is not a regular file")
        size, room = devices.size_bytes(self.fd), self.export.size_bytes
        if size > room or (self.export.exact and size != room):
            raise self.unreadable(f"it has {size} bytes; the destination has been told {room}")
        return size

    def _prepare(self) -> None:
        self._hashes = bytearray(_HASH_BYTES * len(self.blocks))
        self._read = bytearray(len(self.blocks))
        self._recalled = bytearray(len(self.blocks))
        self._next = 0
        self._settled = 0

    def fits(self, offered_bytes: int) -> bool:
        """Whether the destination offers what it was told to; a block device may be larger."""
        wanted = self.export.size_bytes
        return offered_bytes >= wanted if self.export.block else offered_bytes == wanted

    # -- which blocks -------------------------------------------------------------------------------------

    def survey(
        self, present: Iterable[tuple[int, int]], known: Iterable[ledger.Arrived] = (), stamp: bytes = b""
    ) -> None:
        """Learn which ranges hold data at the destination, before anything is sent. The lock is held.

        *known* is what an earlier attempt brought over: blocks of the file as it is now, by its *stamp*, are not
        even read again. Asked again if it was interrupted.
        """
        stale = bytearray(-(-self.size_bytes // extents.BLOCK_BYTES))
        for begin, end in present:
            first, last = begin // extents.BLOCK_BYTES, (end - 1) // extents.BLOCK_BYTES
            stale[first : last + 1] = b"\1" * (last + 1 - first)
        if any(stale):
            wanted = bytearray(stale)
            for index in self.blocks:
                wanted[index] = 1
            self.blocks = array("Q", (index for index, want in enumerate(wanted) if want))
        self._prepare()
        self._is_stale = stale
        self._recall(known, stamp)
        self.surveyed = True

    def stamp(self, boot: bytes) -> bytes:
        """Return what tells this state of the file, in this run of the source's kernel, from any other."""
        if self.export.block:
            # A device has no time of its last change: all of it is read again, and compared.
            return os.urandom(ledger.STAMP_BYTES)
        return ledger.source_stamp(self._found, boot)

    def _recall(self, known: Iterable[ledger.Arrived], stamp: bytes) -> None:
        sizes = array("I", bytes(4 * len(self.blocks)))
        for block in known:
            slot = bisect_left(self.blocks, block.index)
            if slot < len(self.blocks) and self.blocks[slot] == block.index:
                self._hashes[_HASH_BYTES * slot : _HASH_BYTES * (slot + 1)] = block.hash
                self._recalled[slot] = _ARRIVED if block.source == stamp else _KNOWN
                sizes[slot] = block.data_bytes
        for slot, state in enumerate(self._recalled):
            if state == _ARRIVED:
                self._read[slot] = 1
                self._settled += 1
                self._recalled_bytes += sizes[slot]
        self.done_bytes = self._recalled_bytes

    def arrived_before(self, slot: int, found: bytes | None) -> bool:
        """Whether an earlier attempt left in that block what *found* is the hash of (None: zeros)."""
        known = self._hashes[_HASH_BYTES * slot : _HASH_BYTES * (slot + 1)]
        return self._recalled[slot] == _KNOWN and known == (found or bytes(_HASH_BYTES))

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
            while self._next < len(self.blocks):
                self._next += 1
                if self._recalled[self._next - 1] != _ARRIVED:
                    return self._next - 1
            return None

    def sent(
        self, slot: int, found: bytes | None, data_bytes: int, sent_bytes: int = 0, saved_bytes: int = 0
    ) -> None:
        """Note what block *slot* was made of (None: zeros), and count its bytes once; the others each time."""
        with self.lock:
            self.sent_bytes += sent_bytes
            self.saved_bytes += saved_bytes
            begin = _HASH_BYTES * slot
            self._hashes[begin : begin + _HASH_BYTES] = found or bytes(_HASH_BYTES)
            self._recalled[slot] = 0
            if not self._read[slot]:
                self._read[slot] = 1
                self.done_bytes += data_bytes

    def entry(self, slot: int, data_bytes: int) -> tuple[int, int, bytes]:
        """Return what the ledger says of a block that was sent: its index, its bytes of data, its hash."""
        return self.blocks[slot], data_bytes, bytes(self._hashes[_HASH_BYTES * slot :][:_HASH_BYTES])

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

    def begin_ledger(self, number: int) -> None:
        """Set the number of the ledger's first free frame. The lock is held."""
        self._frame = number

    def next_frame(self) -> int:
        """Return the number of a frame of the ledger that nobody has written."""
        with self.lock:
            self._frame += 1
            return self._frame - 1

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
        if self.export.block:
            self._check_same_device()
            return
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

    def _check_same_device(self) -> None:
        """A device has no time of its last change: only that it is the same one can be told."""
        with self.reading():
            named, size = Path(self.path).stat(), devices.size_bytes(self.fd)
        if devices.identity(named) != devices.identity(self._found):
            raise self.unreadable("another device has taken its place during the copy")
        if size != self.size_bytes:
            raise self.unreadable(f"its size has changed from {self.size_bytes} to {size} bytes")

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
        carried = done - self._recalled_bytes
        self._samples.append((now, carried))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (carried - before) / (now - since) if now > since else 0.0
        counts = (self.sent_bytes, self.saved_bytes)
        return CopyProgress(self.export.name, self.path, done, self.allocated_bytes, rate, *counts)
