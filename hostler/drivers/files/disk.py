"""The single actions on a disk out of which everything else here is made.

Each one calls :func:`step` first: a test that kills hostler between any two of them replaces it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def step(action: str) -> None:
    """Do nothing; *action* names what comes next."""


def look(path: Path) -> os.stat_result | None:
    """Return the lstat of *path*, None where nothing is."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_directory(found: os.stat_result | None) -> bool:
    """Whether it is a directory, not a link to one."""
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_file(found: os.stat_result | None) -> bool:
    """Whether it is a regular file, not a link to one."""
    return found is not None and stat.S_ISREG(found.st_mode)


@contextmanager
def opened(path: Path, flags: int = READ) -> Iterator[int]:
    """Open without following a link and without waiting for the other end of a pipe."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def fresh(directory: Path) -> Iterator[int]:
    """Open a directory to look into it: another host may have changed it.

    An NFS client asks the server anew when a directory is opened (close-to-open consistency), not for each name in it.
    """
    with opened(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as fd:
        yield fd


def sync_directory(path: Path) -> None:
    """Make the names in *path* durable; where a pool is a link to a directory, in that."""
    step(f"fsync {path}")
    with fresh(path) as fd:
        os.fsync(fd)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make *path* where it is missing, with exactly *mode*; a link or a file there is an error."""
    step(f"mkdir {path}")
    try:
        path.mkdir(mode)
    except FileExistsError:
        if not is_directory(look(path)):
            raise
    with opened(path, READ | os.O_DIRECTORY) as fd:
        step(f"chmod {path}")
        os.fchmod(fd, mode)


def write_file(path: Path, text: str) -> None:
    """Write a small file that was not there, and make its contents durable; its name is not, yet."""
    step(f"create {path}")
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        step(f"write {path}")
        stream.write(text)
        stream.flush()
        step(f"fsync {path}")
        os.fsync(fd)


def replace(old: Path, new: Path) -> None:
    """Rename one of our own files over another of our own."""
    step(f"replace {new}")
    old.replace(new)


def unlink(path: Path) -> None:
    """Remove a file; nothing if it is not there."""
    step(f"unlink {path}")
    path.unlink(missing_ok=True)


def remove_empty(path: Path) -> bool:
    """Remove a directory if it is empty; return whether it is gone."""
    step(f"rmdir {path}")
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_tree(path: Path) -> None:
    """Remove a directory with all in it; links are removed, never followed. Nothing if it is not there.

    The caller has given the directory a name that nobody but its migration uses: a removal that was cut short
    is recognised by it.
    """
    step(f"rmtree {path}")
    with opened(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as parent:
        try:
            shutil.rmtree(path.name, dir_fd=parent)
        except FileNotFoundError:
            if look(path) is not None:
                raise
        step(f"fsync {path.parent}")
        os.fsync(parent)


def seal(path: Path, *, directory: bool, mode: int, uid: int, gid: int) -> None:
    """Give *path* its mode, its owner if we are root, and make it durable."""
    with opened(path, READ | (os.O_DIRECTORY if directory else 0)) as fd:
        if not directory and not stat.S_ISREG(os.fstat(fd).st_mode):
            raise IsADirectoryError(21, "not a regular file", str(path))
        if os.geteuid() == 0:
            step(f"chown {path}")
            os.fchown(fd, uid, gid)
        step(f"chmod {path}")
        os.fchmod(fd, mode)
        step(f"fsync {path}")
        os.fsync(fd)
