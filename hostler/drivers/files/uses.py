"""Which files the other servers of a host use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostler.drivers import devices
from hostler.drivers.files.chain import Chains
from hostler.drivers.files.place import Place
from hostler.objects import Disk, Domain


@dataclass(frozen=True)
class Use:
    """One server uses one path."""

    server: str
    path: str
    writes: bool


def is_own(disk: Disk) -> bool:
    """Whether this disk's file is its server's alone, by the nature of the disk."""
    return not (disk.readonly or disk.shareable or disk.device == "cdrom")


class Uses:
    """All files that *others* use, chains included; known by name, through links, by inode, by device."""

    def __init__(self, place: Place, others: Sequence[Domain], chains: Chains) -> None:
        self._place = place
        self._by_path: dict[str, list[Use]] = {}
        self._by_identity: dict[devices.Identity, list[Use]] = {}
        for other in others:
            for path, writes in _references(other, chains):
                self._note(Use(other.name, path, writes))

    def of(self, path: str) -> list[Use]:
        """Return who uses the file at *path*, whatever they call it."""
        file = self._place.at(path)
        found = list(self._by_path.get(_real(file), []))
        try:
            status = file.stat()
        except OSError:
            return found
        return found or self._by_identity.get(devices.identity(status), [])

    def within(self, directory: str) -> list[Use]:
        """Return who uses *directory* or anything below it."""
        real = _real(self._place.at(directory))
        return [
            use
            for path, uses in self._by_path.items()
            for use in uses
            if path == real or path.startswith(real + "/")
        ]

    def _note(self, use: Use) -> None:
        file = self._place.at(use.path)
        self._by_path.setdefault(_real(file), []).append(use)
        try:
            status = file.stat()
        except OSError:
            return
        self._by_identity.setdefault(devices.identity(status), []).append(use)


def _real(file: Path) -> str:
    try:
        return str(file.resolve())
    except (OSError, RuntimeError):
        return os.path.normpath(file)


def _references(domain: Domain, chains: Chains) -> Iterator[tuple[str, bool]]:
    for disk in domain.disks:
        yield disk.path, not disk.readonly and disk.device != "cdrom"
        behind = [] if disk.block else chains.of(disk.path, disk.format).backing
        for path in [*disk.backing, *behind]:
            yield path, False
    for state in (domain.nvram, domain.tpm_state):
        if state is not None:
            yield state, True
    for path in [*domain.firmware, *domain.boot_files]:
        yield path, False
