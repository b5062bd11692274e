"""What nbdkit's ``python`` plugin runs beside the ``file`` plugin: takes blocks that travel packed.

A write of bytes at an offset of export N is one frame: the head, then one zstd frame with its length and checksum. It
is unpacked and written to that offset of the part file before it is answered, and a flush is an fsync of the part file:
so an answered frame is what an answered write is to the ``file`` plugin. A frame that is not whole, or stands for
more than it may, is EINVAL and changes nothing. Nothing can be read.

nbdkit runs it under the system's Python, which sees nothing else of hostler.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import zstandard

API_VERSION = 2

#: What follows, and how many bytes it stands for; little-endian.
HEAD = struct.Struct("<4sI")
MAGIC = b"hzf1"
#: The most that a frame stands for, and the most of it that zstd may look back.
MOST_BYTES = 4 << 20
_NAME = re.compile(r"[0-9]{1,9}", re.ASCII)
_BLOCK_HEAD_BYTES, _CHECKSUM_BYTES = 3, 4
_REPEATED = 1  # RFC 8878, 3.1.1.2.2: a block that is one byte, however long it is

_settings: dict[str, str] = {}


class Torn(Exception):
    """Not a frame, or not one that may be written there."""


def unpack(frame: memoryview, room_bytes: int) -> bytes:
    """Return what *frame* stands for, at most *room_bytes*; :class:`Torn` if it is anything but one whole frame."""
    try:
        magic, length = HEAD.unpack_from(frame)
        packed = frame[HEAD.size :]
        found = zstandard.get_frame_parameters(packed)
        if magic != MAGIC or not 0 < length <= min(room_bytes, MOST_BYTES):
            raise Torn(f"it stands for {length} bytes, and there is room for {room_bytes}")
        # zstd makes room for what the frame says of itself, and fills no more than that
        if found.content_size != length or found.window_size > MOST_BYTES or not found.has_checksum:
            raise Torn("zstd's head is not as agreed")
        if _length(packed) != len(packed):
            raise Torn("it is not one whole frame")
        return zstandard.ZstdDecompressor().decompress(packed)
    except (struct.error, zstandard.ZstdError) as error:
        raise Torn(str(error)) from error


def _length(packed: memoryview) -> int:
    """Return how long the frame is that *packed* begins with: zstandard does not say what it left, RFC 8878, 3.1.1."""
    position, last = zstandard.frame_header_size(packed), 0
    while not last and position < len(packed):
        head = int.from_bytes(packed[position : position + _BLOCK_HEAD_BYTES], "little")
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        position += _BLOCK_HEAD_BYTES + (1 if kind == _REPEATED else size)
    return position + _CHECKSUM_BYTES


# -- what nbdkit calls ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A part file, for one connection."""

    fd: int
    size_bytes: int


def config(key: str, value: str) -> None:
    """Take ``dir=``, where links or nodes lead to the part files."""
    _settings[key] = value


def thread_model() -> int:
    """Let connections work side by side: zstd, writes and fsync leave Python to others."""
    return int(_nbdkit().THREAD_MODEL_PARALLEL)


def open(_readonly: bool) -> _Part:
    """Open the part file that the peer names: a number, nothing else of what lies beside it."""
    name = _nbdkit().export_name()
    if not _NAME.fullmatch(name):
        _refuse(errno.ENOENT, f"there is no export {name!r}")
    try:
        fd = os.open(os.path.join(_settings["dir"], name), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # noqa: PTH118
    except OSError as error:
        _refuse(error.errno or errno.EIO, f"export {name}: {error.strerror}")
    if stat.S_ISCHR(os.fstat(fd).st_mode):
        _refuse(errno.ENOENT, f"export {name} is no disk")
    return _Part(fd, os.lseek(fd, 0, os.SEEK_END))


def close(part: _Part) -> None:
    """Let go of it."""
    os.close(part.fd)


def get_size(part: _Part) -> int:
    """Return the part file's size: a frame is smaller than what it stands for, and so fits everywhere."""
    return part.size_bytes


def pread(_part: _Part, _into: memoryview, _offset: int, _flags: int) -> NoReturn:
    """Refuse."""
    _refuse(errno.EPERM, "nothing can be read here")


def pwrite(part: _Part, frame: memoryview, offset: int, _flags: int) -> None:
    """Write what a frame stands for to *offset*."""
    try:
        data = memoryview(unpack(frame, part.size_bytes - offset))
    except Torn as error:
        _refuse(errno.EINVAL, f"the frame at {offset} is refused: {error}")
    _answered(lambda: _write(part.fd, data, offset))


def flush(part: _Part, _flags: int) -> None:
    """See all that was answered on stable storage."""
    _answered(lambda: os.fsync(part.fd))


def _write(fd: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
    # As the file plugin does without the cache: it goes to the disk now, not when a flush asks for all of it.
    os.posix_fadvise(fd, offset, len(data), os.POSIX_FADV_DONTNEED)


def _answered(action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        _refuse(error.errno or errno.EIO, str(error))


def _refuse(number: int, reason: str) -> NoReturn:
    _nbdkit().set_error(number)
    raise RuntimeError(reason)


def _nbdkit() -> Any:
    """Return what nbdkit puts into its Python; the source, which makes frames, has no such module."""
    import nbdkit  # type: ignore[import-not-found]

    return nbdkit
