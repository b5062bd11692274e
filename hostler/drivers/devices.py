"""Block devices, as everybody here looks at them: through links, by the device behind a name."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: ``include/uapi/linux/fs.h``: write back what is cached of a device, and forget it.
_BLKFLSBUF = 0x1261

#: The device, or the file, that a name leads to, whatever the name is: what it is, and two numbers.
Identity = tuple[str, int, int]


@dataclass(frozen=True)
class Device:
    """What a block device is now."""

    identity: Identity
    size_bytes: int
    mode: int  #: permission bits
    uid: int
    gid: int


def is_block(status: os.stat_result) -> bool:
    """Whether it is a block device. A test that has none puts regular files in their place here."""
    return stat.S_ISBLK(status.st_mode)


def identity(status: os.stat_result) -> Identity:
    """Return what two names of one device, or of one file, have in common."""
    if stat.S_ISBLK(status.st_mode):
        return ("device", os.major(status.st_rdev), os.minor(status.st_rdev))
    return ("file", status.st_dev, status.st_ino)


def look(path: Path) -> Device | None:
    """Return the block device that *path* names; None if it names none. :class:`OSError`: it cannot be read."""
    try:
        with opened(path, os.O_RDONLY) as fd:
            status = os.fstat(fd)
            return Device(
                identity=identity(status),
                size_bytes=size_bytes(fd),
                mode=stat.S_IMODE(status.st_mode),
                uid=status.st_uid,
                gid=status.st_gid,
            )
    except (FileNotFoundError, NotADirectoryError, NotABlockDeviceError):
        return None


class NotABlockDeviceError(OSError):
    """A name that should lead to a block device leads to something else."""


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a block device, and nothing else; links are followed: that is what its names are."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not is_block(os.fstat(fd)):
            raise NotABlockDeviceError(errno.ENOTBLK, os.strerror(errno.ENOTBLK), str(path))
        yield fd
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Whether the kernel uses the device: mounted, swapped to, part of another device. open(2), O_EXCL."""
    try:
        with opened(path, os.O_RDONLY | os.O_EXCL):
            return False
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise


def size_bytes(fd: int) -> int:
    """Return how long a file or a block device is: a device's status does not say."""
    return os.lseek(fd, 0, os.SEEK_END)


def forget_cache(fd: int) -> None:
    """See every byte on the disk, and forget it: what is read next comes from the disk."""
    os.fsync(fd)
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        fcntl.ioctl(fd, _BLKFLSBUF, 0)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
