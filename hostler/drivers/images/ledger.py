"""The ledger: which blocks of a file have arrived, written by the source, kept by the receiver beside the manifest.

A copy that is taken up again reads it: so no block is sent twice that is known to have arrived, whichever end died.
It is a row of frames of 512 bytes, little-endian; one that is torn or was never written is passed over::

    seal  kind  count  source  boot     56 bytes
    BLOCKS:  index  bytes of data  hash of the block      44 bytes each, ten at most; the hash is zeros for zeros
    STABLE:  number of a BLOCKS frame                      4 bytes each, 114 at most

*source* tells the file that was read and its state, *boot* the run of the destination's kernel. A BLOCKS frame says
that the destination's kernel has its blocks: it counts for as long as that kernel lives. Once a flush has brought
them to stable storage a STABLE frame names it, and it counts for good.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from blake3 import blake3

from hostler.drivers.images.extents import BLOCK_BYTES

FRAME_BYTES = 512
#: Bytes of what tells a source file's state, and of what tells a boot.
STAMP_BYTES = 16
#: Kind 1 had blocks hashed another way.
_BLOCKS, _STABLE = 3, 2
_HEAD = struct.Struct(f"<16sIi{STAMP_BYTES}s{STAMP_BYTES}s")
_ARRIVED = struct.Struct("<QI32s")
_NUMBER = struct.Struct("<I")
#: How many blocks a frame names, and how many frames.
MOST_BLOCKS = (FRAME_BYTES - _HEAD.size) // _ARRIVED.size
MOST_FRAMES = (FRAME_BYTES - _HEAD.size) // _NUMBER.size
_CHUNK_FRAMES = 2048
_SPARE_FRAMES = 64


class Export(Protocol):
    """What the frames are read from."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""

    def read(self, length: int, offset: int) -> bytes:
        """Return *length* bytes."""

    def data_extents(self, stop: int) -> Iterator[tuple[int, int]]:
        """Yield begin and end of what may be other than zeros, up to *stop*."""


@dataclass(frozen=True)
class Arrived:
    """A block that the destination holds."""

    index: int
    data_bytes: int  #: how much of it lay in extents
    hash: bytes  #: 32 bytes; zeros where the block is zeros
    source: bytes  #: what the source's file was when it was read


def upper_bound(size_bytes: int) -> int:
    """Return how long the ledger of a file of at most *size_bytes* may become; what no longer fits is not kept."""
    return FRAME_BYTES * (4 * -(-size_bytes // BLOCK_BYTES) + _SPARE_FRAMES)


def found_frames(blocks: Iterable[tuple[int, bytes]], boot: bytes) -> Iterator[bytes]:
    """Yield the frames of a ledger that says which blocks (index, hash) were read from the destination's disk.

    Whatever the source's file is, it is not known to have been the same: each block is compared.
    """
    entries = ((index, 0, found) for index, found in blocks)
    count = 0
    while group := list(islice(entries, MOST_BLOCKS)):
        yield blocks_frame(group, bytes(STAMP_BYTES), boot)
        count += 1
    for first in range(0, count, MOST_FRAMES):
        yield stable_frame(range(first, min(first + MOST_FRAMES, count)), bytes(STAMP_BYTES), boot)


def source_stamp(found: os.stat_result, boot: bytes) -> bytes:
    """Return what changes whenever a file's contents could have: also with a reboot, which may lose writes."""
    facts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return bytes(blake3(repr(facts).encode() + boot).digest(length=STAMP_BYTES))


def blocks_frame(arrived: Iterable[tuple[int, int, bytes]], source: bytes, boot: bytes) -> bytes:
    """Return the frame that says which blocks (index, bytes of data, hash) the destination's kernel has."""
    entries = [_ARRIVED.pack(*block) for block in arrived]
    return _frame(_BLOCKS, entries, source, boot)


def stable_frame(numbers: Iterable[int], source: bytes, boot: bytes) -> bytes:
    """Return the frame that says which earlier ones are true for good."""
    return _frame(_STABLE, [_NUMBER.pack(number) for number in numbers], source, boot)


def _frame(kind: int, entries: list[bytes], source: bytes, boot: bytes) -> bytes:
    body = _HEAD.pack(bytes(16), kind, len(entries), source, boot) + b"".join(entries)
    body = body.ljust(FRAME_BYTES, b"\0")
    return _seal(body) + body[16:]


def _seal(frame: bytes) -> bytes:
    return bytes(blake3(frame[16:]).digest(length=16))


def arrived(export: Export, boot: bytes) -> Iterator[Arrived]:
    """Yield each block that the destination, in its run *boot*, holds; the latest word about a block comes last.

    It is read once. Frames of an earlier run wait until those that name them have been seen: these lie before the
    first frame of this run.
    """
    stable = bytearray(export.size_bytes // FRAME_BYTES)
    waiting: list[tuple[int, bytes, bytes]] = []
    for number, kind, source, written, entries in _frames(export):
        if kind == _STABLE:
            for (named,) in _NUMBER.iter_unpack(entries):
                if named < len(stable):
                    stable[named] = 1
        elif written == boot:
            yield from _settled(waiting, stable)
            waiting.clear()
            yield from _blocks(entries, source)
        else:
            waiting.append((number, source, entries))
    yield from _settled(waiting, stable)


def _settled(frames: list[tuple[int, bytes, bytes]], stable: bytearray) -> Iterator[Arrived]:
    for number, source, entries in frames:
        if stable[number]:
            yield from _blocks(entries, source)


def _blocks(entries: bytes, source: bytes) -> Iterator[Arrived]:
    for index, data_bytes, found in _ARRIVED.iter_unpack(entries):
        yield Arrived(index, data_bytes, found, source)


def free_frame(export: Export) -> int:
    """Return the number of the first frame behind all that were written."""
    ends = [end for _, end in export.data_extents(export.size_bytes)]
    return -(-max(ends, default=0) // FRAME_BYTES)


def _frames(export: Export) -> Iterator[tuple[int, int, bytes, bytes, bytes]]:
    """Yield number, kind, source, boot and entries of each whole frame."""
    for begin, end in export.data_extents(export.size_bytes):
        stop = min(-(-end // FRAME_BYTES), export.size_bytes // FRAME_BYTES)
        for first in range(begin // FRAME_BYTES, stop, _CHUNK_FRAMES):
            last = min(first + _CHUNK_FRAMES, stop)
            chunk = export.read((last - first) * FRAME_BYTES, first * FRAME_BYTES)
            for number in range(first, last):
                found = _read(chunk[(number - first) * FRAME_BYTES :][:FRAME_BYTES])
                if found is not None:
                    yield (number, *found)


def _read(frame: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    seal, kind, count, source, boot = _HEAD.unpack_from(frame)
    if not any(seal) or seal != _seal(frame):
        return None
    sizes = {_BLOCKS: _ARRIVED.size, _STABLE: _NUMBER.size}
    end = _HEAD.size + count * sizes.get(kind, FRAME_BYTES)
    if count < 0 or end > FRAME_BYTES:
        return None
    return kind, source, boot, frame[_HEAD.size : end]
