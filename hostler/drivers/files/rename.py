"""A rename that never replaces anything.

``renameat2(RENAME_NOREPLACE)`` where the file system has it. Where it has not (NFS, some FUSE and network
file systems answer EINVAL), a file is linked under its new name, which fails if the name is taken, and its
old name is removed; a crash in between leaves one file with two names, and :func:`finish_half` completes it.
A directory cannot be linked: it is renamed plainly after a look at the new name, and all that rename(2) can
replace with a directory, should somebody make one at that very moment, is an empty directory.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from hostler.drivers.files import disk

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
#: What a kernel or a file system says that does not know the flag.
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_libc = ctypes.CDLL(None, use_errno=True)


def rename(old: Path, new: Path) -> None:
    """Rename *old* to *new* and make both names durable; FileExistsError if *new* is taken."""
    disk.step(f"rename {old} {new}")
    try:
        renameat2(old, new)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        _rename_without_flag(old, new)
    sync_names(old, new)


def sync_names(old: Path, new: Path) -> None:
    """Make a rename durable: first the directory that has gained a name."""
    disk.sync_directory(new.parent)
    if old.parent != new.parent and disk.look(old.parent) is not None:
        disk.sync_directory(old.parent)


def finish_half(old: Path, new: Path) -> bool:
    """Complete a rename that was cut short between link and unlink; return whether it was one."""
    before, after = disk.look(old), disk.look(new)
    if before is None or after is None or not disk.is_file(before):
        return False
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):
        return False
    disk.unlink(old)
    sync_names(old, new)
    return True


def renameat2(old: Path, new: Path) -> None:
    """Call renameat2(2) with RENAME_NOREPLACE."""
    if not hasattr(_libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(old))
    answer = _libc.renameat2(
        _AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), ctypes.c_uint(_RENAME_NOREPLACE)
    )
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(old), None, str(new))


def _rename_without_flag(old: Path, new: Path) -> None:
    if disk.is_directory(disk.look(old)):
        if disk.look(new) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        old.rename(new)
        return
    disk.step(f"link {old} {new}")
    os.link(old, new, follow_symlinks=False)
    disk.unlink(old)
