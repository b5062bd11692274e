"""Room on file systems: what is free, less what has been promised to others and has not arrived yet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from hostler.drivers.files import disk
from hostler.drivers.files.place import Place
from hostler.objects import Unit

#: What a file system needs beyond the blocks that are counted: metadata, and the copy's own notes.
_SLACK = 1.05
_GIB = 1 << 30
_BLOCK_BYTES = 512  #: of ``st_blocks``, whatever the file system's are


def needed(units: Sequence[Unit]) -> dict[str, int]:
    """Return how many bytes *units* will take, by the directory in which they will lie."""
    need: dict[str, int] = {}
    for unit in units:
        parent = str(PurePosixPath(unit.path).parent)
        need[parent] = need.get(parent, 0) + unit.size_bytes
    return {parent: int(size_bytes * _SLACK) for parent, size_bytes in need.items()}


def problems(
    place: Place,
    units: Sequence[Unit],
    promised: Mapping[str, int] | None = None,
    ours: Sequence[str] = (),
) -> list[str]:
    """Return, as sentences, which file systems have no room for *units*.

    *promised*: bytes by part directory of others, of which what lies there has arrived. *ours*: directories whose
    room is *units*' already, or can be had.
    """
    need: dict[int, int] = {}
    parents: dict[int, dict[str, Path]] = {}
    for parent, size_bytes in needed(units).items():
        directory = nearest(place.at(parent))
        device = directory.stat().st_dev
        need[device] = need.get(device, 0) + size_bytes
        parents.setdefault(device, {})[parent] = directory
    waiting, had = _still_to_come(place, promised or {}), _lying(place, ours)
    found = []
    for device, need_bytes in need.items():
        free_bytes = free(next(iter(parents[device].values()))) + had.get(device, 0)
        others_bytes = waiting.get(device, 0)
        if need_bytes > free_bytes - others_bytes:
            said = f"{_gib(need_bytes)} needed, {_gib(free_bytes)} free"
            if others_bytes:
                said += f", of which {_gib(others_bytes)} are promised to other migrations"
            found.append(f"not enough space in {', '.join(parents[device])}: {said}")
    return found


def devices(place: Place, units: Sequence[Unit]) -> set[int]:
    """Return on which devices *units* will lie."""
    return {nearest(place.at(parent)).stat().st_dev for parent in needed(units)}


def free(directory: Path) -> int:
    """Return how many bytes may still be written to the file system of *directory*."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def nearest(directory: Path) -> Path:
    """Return *directory*, or the nearest one above it that exists."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory


def _still_to_come(place: Place, promised: Mapping[str, int]) -> dict[int, int]:
    """Return how many of the *promised* bytes have not arrived, by device."""
    waiting: dict[int, int] = {}
    for path, size_bytes in promised.items():
        directory = place.at(path)
        device = nearest(directory).stat().st_dev
        waiting[device] = waiting.get(device, 0) + max(0, size_bytes - sum(_allocated(directory)))
    return waiting


def _lying(place: Place, directories: Sequence[str]) -> dict[int, int]:
    """Return how many bytes lie in *directories*, by device."""
    found: dict[int, int] = {}
    for directory in map(place.at, directories):
        if (status := disk.look(directory)) is not None:
            found[status.st_dev] = found.get(status.st_dev, 0) + sum(_allocated(directory))
    return found


def _allocated(directory: Path) -> Iterator[int]:
    """Give the bytes that each file below *directory* takes; one that goes meanwhile takes none."""
    for top, _, names in os.walk(directory):
        for name in names:
            if (status := disk.look(Path(top) / name)) is not None:
                yield status.st_blocks * _BLOCK_BYTES


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.2f} GiB"
