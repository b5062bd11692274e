"""Files as blocks with holes: what is read, hashed and sent, and what is not."""

from __future__ import annotations

import errno
import os
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from blake3 import blake3

#: The unit of hashing, resuming and comparing.
BLOCK_BYTES = 4 << 20
#: A shorter hole between two extents of a block is sent as zeros: a request costs more than its bytes.
BRIDGE_BYTES = 32 << 10
#: Of a block this much at a time is hashed, or is zeros and is not.
CELL_BYTES = BLOCK_BYTES // 64
_LAYOUT = struct.Struct("<QQ")
_ZEROS = bytes(CELL_BYTES)


@dataclass(frozen=True)
class Block:
    """One block of a file, holes filled with zeros."""

    view: memoryview  #: the whole block; the last one of a file may be short
    segments: list[tuple[int, int]]  #: where data lies: offset in the block and length, ascending
    data_bytes: int  #: how much of the block lies in extents

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """What *segments* leave out, in the same terms."""
        edges = [
            0,
            *(edge for offset, length in self.segments for edge in (offset, offset + length)),
            len(self.view),
        ]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return [(begin, end - begin) for begin, end in pairs if begin < end]


def data_extents(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of what is allocated between *start* and *stop*; the rest reads as zeros."""
    position = start
    while position < stop:
        try:
            begin = os.lseek(fd, position, os.SEEK_DATA)
            end = min(os.lseek(fd, begin, os.SEEK_HOLE), stop)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            if error.errno == errno.EINVAL:  # a block device, which does not tell what it holds
                yield position, stop
                return
            raise
        if begin >= stop:
            return
        yield begin, end
        position = end


def data_blocks(fd: int, size: int) -> tuple[array[int], int]:
    """Return the indexes of the blocks that hold data, and how many bytes of the file lie in extents."""
    indexes: array[int] = array("Q")
    allocated = 0
    for begin, end in data_extents(fd, 0, size):
        allocated += end - begin
        first = begin // BLOCK_BYTES
        if indexes and indexes[-1] == first:
            first += 1
        indexes.extend(range(first, (end - 1) // BLOCK_BYTES + 1))
    return indexes, allocated


class Buffer:
    """Room for one block, which knows where it holds data: of a block before, only that has to be overwritten."""

    def __init__(self, length: int = BLOCK_BYTES) -> None:
        self._view = memoryview(bytearray(length))
        self._data: list[tuple[int, int]] = []

    def take(self, length: int, segments: list[tuple[int, int]]) -> memoryview:
        """Return the first *length* bytes, all zeros but for *segments*, which are to be filled."""
        for offset, count in set(self._data).difference(segments):
            self._view[offset : offset + count] = bytes(count)
        self._data = segments
        return self._view[:length]


def read_block(fd: int, index: int, size: int, buffer: Buffer) -> Block:
    """Read block *index* of a file of *size* bytes into *buffer*.

    A file that ends before *size* is an :class:`OSError`.
    """
    begin = index * BLOCK_BYTES
    length = min(BLOCK_BYTES, size - begin)
    extents = list(data_extents(fd, begin, begin + length))
    segments = _bridged([(first - begin, last - begin) for first, last in extents])
    view = buffer.take(length, segments)
    block = Block(view, segments, sum(last - first for first, last in extents))
    for offset, count in segments:
        _read_fully(fd, view[offset : offset + count], begin + offset)
    return block


def _bridged(extents: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in extents:
        if merged and begin - merged[-1][1] < BRIDGE_BYTES:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return [(begin, end - begin) for begin, end in merged]


def _read_fully(fd: int, view: memoryview, offset: int) -> None:
    done = 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], offset + done)
        if count == 0:
            raise OSError(errno.EIO, "the file has become shorter")
        done += count


def block_hash(block: Block) -> bytes | None:
    """Return the hash of a block; None where all of it is zeros, as if it were a hole.

    It is BLAKE3 over the block's 64 KiB cells that are not all zeros, in their order, and over which these are (a bit
    for each cell, the first one the lowest) and the block's length, 8 bytes each, little-endian. So it is the
    same wherever holes lie, and a hole costs nothing.
    """
    cells = 0
    hasher = blake3()
    for first, stop in _runs(_cells_with_data(block)):
        cells |= (1 << stop) - (1 << first)
        hasher.update(block.view[first * CELL_BYTES : stop * CELL_BYTES])
    if not cells:
        return None
    found: bytes = hasher.update(_LAYOUT.pack(cells, len(block.view))).digest()
    return found


def _cells_with_data(block: Block) -> Iterator[int]:
    """Yield the numbers of the cells that are not all zeros, ascending."""
    looked_at = -1
    for offset, length in block.segments:
        first = max(looked_at + 1, offset // CELL_BYTES)
        looked_at = (offset + length - 1) // CELL_BYTES
        for cell in range(first, looked_at + 1):
            # compares in one go, without a copy
            if not _ZEROS.startswith(block.view[cell * CELL_BYTES : (cell + 1) * CELL_BYTES]):
                yield cell


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield first and stop of each run of ascending *numbers*."""
    first = stop = -1
    for number in numbers:
        if number != stop:
            if stop > first:
                yield first, stop
            first = number
        stop = number + 1
    if stop > first:
        yield first, stop


@lru_cache(maxsize=16)
def zeros_hash(length: int) -> bytes:
    """Return what :func:`block_hash` would be of *length* zeros."""
    found: bytes = blake3(_LAYOUT.pack(0, length)).digest()
    return found


def hashed_blocks(
    fd: int, size: int, checkpoint: Callable[[], None], first: int = 0, stop: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield index and hash of each block that is not all zeros, ascending; reads allocated extents only.

    Of blocks before *first* and from *stop* on nothing is read.
    """
    buffer = Buffer(min(BLOCK_BYTES, size))
    indexes, _ = data_blocks(fd, size)
    end = len(indexes) if stop is None else bisect_left(indexes, stop)
    for index in indexes[bisect_left(indexes, first) : end]:
        checkpoint()
        found = block_hash(read_block(fd, index, size, buffer))
        if found is not None:
            yield index, found
