"""What lies in a directory that moves as a whole."""

from __future__ import annotations

import dataclasses
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from hostler.drivers.files import markers
from hostler.objects import FileEntry, Unit, UnitKind


@dataclass
class Tree:
    """The contents of a directory; names are relative to it."""

    files: list[FileEntry] = field(default_factory=list)
    subdirectories: list[str] = field(default_factory=list)  #: parents first
    problems: list[str] = field(default_factory=list)  #: sentences


def entry(name: str, status: os.stat_result) -> FileEntry:
    """Return the record of one file."""
    return FileEntry(
        name=name,
        size_bytes=status.st_size,
        allocated_bytes=status.st_blocks * 512,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )


def as_image(one: FileEntry, image: tuple[str, int] | None) -> FileEntry:
    """Add what is known of the image in that file: its declared format and the size that the guest sees.

    What is no image (a log, TPM state, UEFI variables) may have another size by the time the guest is off.
    """
    if image is None:
        return dataclasses.replace(one, may_grow=True)
    image_format, virtual_bytes = image
    return dataclasses.replace(one, may_grow=image_format != "raw", virtual_bytes=virtual_bytes)


def file_unit(
    path: str,
    kind: UnitKind,
    status: os.stat_result,
    image: tuple[str, int] | None,
    digest: str | None = None,
) -> Unit:
    """Return the unit of one file."""
    return Unit(
        path=path,
        kind=kind,
        directory=False,
        files=[entry("", status) if kind is UnitKind.SHARED else as_image(entry("", status), image)],
        device=status.st_dev,
        inode=status.st_ino,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        digest=digest,
    )


def directory_unit(
    path: str, status: os.stat_result, files: list[FileEntry], subdirectories: list[str]
) -> Unit:
    """Return the unit of a directory."""
    return Unit(
        path=path,
        kind=UnitKind.OWN,
        directory=True,
        files=files,
        subdirectories=subdirectories,
        device=status.st_dev,
        inode=status.st_ino,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )


def read(directory: Path, path: str) -> Tree:
    """List *directory*, which the domain calls *path*; markers and sockets are left out."""
    tree = Tree()
    _read_into(tree, directory, path, "", directory.lstat().st_dev)
    return tree


def _read_into(tree: Tree, directory: Path, path: str, prefix: str, device: int) -> None:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda one: one.name)
    for one in found:
        if not prefix and one.name.startswith(markers.NAME):
            continue
        name = prefix + one.name
        status = one.stat(follow_symlinks=False)
        problem = obstacle(f"{path}/{name}", status, device)
        if problem:
            tree.problems.append(problem)
        elif stat.S_ISDIR(status.st_mode):
            tree.subdirectories.append(name)
            _read_into(tree, directory / one.name, path, name + "/", device)
        elif stat.S_ISREG(status.st_mode):
            tree.files.append(entry(name, status))


def obstacle(path: str, status: os.stat_result, device: int) -> str | None:
    """Return, as a sentence, why what lies at *path*, in a directory on *device*, cannot move."""
    named = nameable(path)
    if named:
        return named
    if stat.S_ISLNK(status.st_mode):
        return f"{path} is a symbolic link"
    if status.st_dev != device:
        return f"{path} is a mount point"
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        return f"{path} has {status.st_nlink} names (hard links): only one of them would move"
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISSOCK(status.st_mode)):
        return f"{path} is a pipe or a device"
    return None


def nameable(path: str) -> str | None:
    """Return, as a sentence, why *path* cannot be written into a record."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"{path!a} is not UTF-8"
    return "a file's name holds a zero byte" if "\0" in path else None
