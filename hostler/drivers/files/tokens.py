"""Token files: what one host writes into a directory for the other to read, and so to prove that both have it.

The name carries the migration's uuid and the writer's role, so it is looked for only once it was written (an NFS client
would remember that it was not there), never belongs to another migration, and is found by its name if it is left over.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from hostler.drivers.files import disk, markers

#: Random bytes in a token.
_TOKEN_BYTES = 16


def write(directory: Path, migration: str, role: str) -> str:
    """Write a new token into *directory*, in the place of an earlier one of ours, durably; return it."""
    token = secrets.token_hex(_TOKEN_BYTES)
    disk.write_file(directory / markers.token_name(migration, role), token)
    _sync(directory)
    return token


def read(directory: Path, migration: str, role: str) -> str | None:
    """Return what is in the token file of *role* in *directory*; None if there is none."""
    try:
        with disk.fresh(directory) as parent:
            fd = os.open(markers.token_name(migration, role), disk.READ, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return os.read(fd, 2 * _TOKEN_BYTES + 1).decode("ascii", "replace")
    finally:
        os.close(fd)


def remove(directory: Path, migration: str, role: str) -> None:
    """Remove the token file of *role*; nothing if there is none."""
    file = directory / markers.token_name(migration, role)
    if disk.look(file) is not None:
        disk.unlink(file)
        _sync(directory)


def _sync(directory: Path) -> None:
    """Make the names in *directory*, which may be a link to one, durable."""
    disk.step(f"fsync {directory}")
    with disk.fresh(directory) as fd:
        os.fsync(fd)
