"""Files and devices that bytes arrive in."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hostler.drivers import devices
from hostler.drivers.images import ledger, manifest, state
from hostler.objects import Export


def prepare(export: Export, part: Path, notes: Path, kept: Path) -> None:
    """Make the file *part*, or see that the device is there; and those of its manifest and of its ledger."""
    if export.block:
        check_device(part, export.size_bytes)
    else:
        if not part.exists():
            state.remove(kept)  # first: it must not tell of another file's blocks
        make_sparse(part, export.size_bytes)
    make_sparse(notes, manifest.upper_bound(export.size_bytes))
    make_sparse(kept, ledger.upper_bound(export.size_bytes))


def gone(export: Export, part: Path, notes: Path) -> Path | None:
    """Return which of what :func:`prepare` made is not there any more; None if all of it is."""
    if export.block and devices.look(part) is None:
        return part
    files = (notes,) if export.block else (part, notes)
    return next((path for path in files if path.is_symlink() or not path.is_file()), None)


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
