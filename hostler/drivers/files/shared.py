"""Files that belong to the host: who relies on one, and when one that a migration brought may go again.

The rule. A migration notes in the marker of its part directory beside a SHARED file either that it *placed*
the file (its inode) or that it *relies* on the one that was there. A file is removed by the undo of the
migration that placed it, if it is still that inode, no other migration's part directory beside it relies on
it, and the host says that no server uses it. Both the note and the removal are made under one lock of the
host, so that nobody relies on a file that is on its way out. From the settling of a migration on, its server
is defined, and the host's answer covers it.

A file that is not here yet is received by one migration, which notes so in its marker under the same lock, and the
others wait for it. It notes all that it needs, or nothing while one of them is received by another: who waits has
noted nothing that the other could wait for. Killed in the midst of its notes it has some; whatever it needs was free
then, so it waits for later ones only, and no circle closes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler.drivers.files import disk, markers
from hostler.drivers.files.markers import Marker


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
    return any(file.name in marker.relies for _, marker in _others(file, migration))


def receiver_of(file: Path, migration: str, over: Collection[str] = ()) -> str | None:
    """Return another migration than *migration*, and not one of those *over*, that receives *file*, which is not here.

    One that has dropped its copy, or whose copy was in its place and has gone from there, does not any more.
    """
    for directory, marker in _others(file, migration):
        given_up = file.name in marker.relies
        gone = file.name in marker.placed and disk.look(directory / file.name) is None
        if file.name in marker.receives and not given_up and not gone and marker.migration not in over:
            return marker.migration
    return None


def _others(file: Path, migration: str) -> Iterator[tuple[Path, Marker]]:
    """Give the part directories beside *file* of other migrations than *migration*, with their markers."""
    with os.scandir(file.parent) as entries:
        directories = sorted(Path(one.path) for one in entries if one.name.endswith(".part"))
    for directory in directories:
        marker = markers.read(directory)
        if marker is not None and marker.migration != migration:
            yield directory, marker
