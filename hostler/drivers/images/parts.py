"""Files and devices that bytes arrive in."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hostler.drivers import devices


def check_device(path: Path, size: int) -> None:
    """See that a device is there and large enough; a name without one would become a file in memory."""
    with devices.opened(path, os.O_RDWR) as fd:
        found = devices.size_bytes(fd)
    if found < size:
        raise OSError(errno.ENOSPC, f"it has {found} bytes, and {size} are to arrive")


def make_sparse(path: Path, size: int) -> None:
    """Make *path* where missing, and *size* bytes long; what is no file of its own is an :class:`OSError`."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if found.st_size != size:
            os.ftruncate(fd, size)
    finally:
        os.close(fd)
