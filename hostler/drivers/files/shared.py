"""Files that belong to the host: who relies on one, and when one that a migration brought may go again.

The rule. A migration notes in the marker of its part directory beside a SHARED file either that it *placed*
the file (its inode) or that it *relies* on the one that was there. A file is removed by the undo of the
migration that placed it, if it is still that inode, no other migration's part directory beside it relies on
it, and the host says that no server uses it. Both the note and the removal are made under one lock of the
host, so that nobody relies on a file that is on its way out. From the settling of a migration on, its server
is defined, and the host's answer covers it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler.drivers.files import markers


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold the host's lock of shared files; the kernel drops it when the process dies."""
    with held(lock):
        yield


@contextmanager
def held(lock: Path) -> Iterator[int]:
    """Hold a lock of the host; the descriptor that comes holds it in whoever inherits it, too."""
    lock.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def relied_on(file: Path, migration: str) -> bool:
    """Whether another migration than *migration* relies on *file*, as its part directory beside it says."""
    with os.scandir(file.parent) as entries:
        directories = [Path(one.path) for one in entries if one.name.endswith(".part")]
    for directory in directories:
        marker = markers.read(directory)
        if marker is not None and marker.migration != migration and file.name in marker.relies:
            return True
    return False
