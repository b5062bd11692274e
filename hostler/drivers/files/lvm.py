"""lvm2, by its commands: argument lists and JSON reports, no shell.

Each command takes a lock of the host that its process inherits: one that outlives the worker that started it still
holds it, and a successor's first look waits until it has done what it was asked for.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostler.drivers.files import disk, shared
from hostler.objects import LogicalVolume

#: A command that takes longer hangs, behind a device that does not answer, say.
TIMEOUT_S = 120.0
_REPORT = ("--reportformat", "json", "--units", "b", "--nosuffix", "-o")
_VOLUME = "vg_name,vg_uuid,lv_name,lv_uuid,lv_size,lv_role,lv_tags,lv_path,lv_dm_path"
#: The variable that tells lvm2 where its configuration is, if not in /etc/lvm; lvm(8).
_CONFIGURATION = "LVM_SYSTEM_DIR"
_GROUP = "vg_name,vg_uuid,vg_extent_size,vg_free_count"


@dataclass(frozen=True)
class Found:
    """A logical volume as a report shows it."""

    volume: LogicalVolume
    size_bytes: int
    roles: tuple[str, ...]  #: ``public``; ``origin`` and ``snapshot``, if it is one; lvs(8), lv_role
    tags: tuple[str, ...]
    paths: tuple[str, ...]  #: ``/dev/GROUP/NAME`` and ``/dev/mapper/...``

    @property
    def full_name(self) -> str:
        """As lvm2's commands take it."""
        return f"{self.volume.group}/{self.volume.name}"


@dataclass(frozen=True)
class Group:
    """A volume group as a report shows it."""

    name: str
    uuid: str
    extent_bytes: int
    free_extents: int

    def extents_of(self, size_bytes: int) -> int:
        """Return how many extents hold so many bytes."""
        return -(-size_bytes // self.extent_bytes)


class Lvm:
    """The logical volumes of this host. What a command refuses is an :class:`OSError` with its words.

    *lock*: the file that is locked; *options*: added to each command.
    """

    def __init__(self, lock: Path, program: str = "lvm", options: Sequence[str] = ()) -> None:
        self._lock = lock
        self._program = program
        self._options = tuple(options)

    def volumes(self) -> list[Found]:
        """Return all of them; none where lvm2 is not installed."""
        rows = self._report("lv", "lvs", *_REPORT, _VOLUME)
        return [
            Found(
                volume=LogicalVolume(row["vg_name"], row["vg_uuid"], row["lv_name"], row["lv_uuid"]),
                size_bytes=int(row["lv_size"]),
                roles=_words(row["lv_role"]),
                tags=_words(row["lv_tags"]),
                paths=(row["lv_path"], row["lv_dm_path"]),
            )
            for row in rows
        ]

    def groups(self) -> dict[str, Group]:
        """Return the volume groups by name; none where lvm2 is not installed."""
        rows = self._report("vg", "vgs", *_REPORT, _GROUP)
        return {
            row["vg_name"]: Group(
                row["vg_name"], row["vg_uuid"], int(row["vg_extent_size"]), int(row["vg_free_count"])
            )
            for row in rows
        }

    def create(self, group: str, name: str, size_bytes: int, tag: str) -> None:
        """Make a volume, tagged from its first moment; what its extents held before is still in it."""
        size = f"{size_bytes}b"
        plain = ("--yes", "--zero", "n", "--wipesignatures", "n")
        self._do("lvcreate", *plain, "--name", name, "--size", size, "--addtag", tag, group)

    def rename(self, found: Found, name: str) -> None:
        """Rename it; a name that is taken is an error."""
        self._do("lvrename", found.volume.group, found.volume.name, name)

    def tag(self, found: Found, tag: str) -> None:
        """Add a tag; nothing if it has it."""
        if tag not in found.tags:
            self._do("lvchange", "--addtag", tag, found.full_name)

    def untag(self, found: Found, tag: str) -> None:
        """Take a tag off; nothing if it has it not."""
        if tag in found.tags:
            self._do("lvchange", "--deltag", tag, found.full_name)

    def extend(self, found: Found, size_bytes: int) -> None:
        """Make it at least so large; nothing if it is."""
        if found.size_bytes < size_bytes:
            self._do("lvextend", "--size", f"{size_bytes}b", found.full_name)

    def remove(self, found: Found) -> None:
        """Remove it; one that is open is an error."""
        self._do("lvremove", "--yes", found.full_name)

    def _report(self, kind: str, *command: str) -> list[dict[str, str]]:
        try:
            said = self._run(command)
        except FileNotFoundError:
            return []
        try:
            found: Any = json.loads(said)
            return [row for report in found["report"] for row in report.get(kind, [])]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise OSError(errno.EIO, f"its report cannot be read: {error}", command[0]) from error

    def _do(self, *command: str) -> None:
        disk.step(" ".join(command))
        self._run(command)

    def _run(self, command: Sequence[str]) -> str:
        """Run one of lvm2's commands; return what it printed."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
        environment["LVM_SUPPRESS_FD_WARNINGS"] = "1"  # the lock is to be inherited
        if _CONFIGURATION in os.environ:
            environment[_CONFIGURATION] = os.environ[_CONFIGURATION]
        with shared.held(self._lock) as lock:
            try:
                done = subprocess.run(
                    [self._program, *command, *self._options],
                    capture_output=True,
                    check=False,
                    stdin=subprocess.DEVNULL,
                    timeout=TIMEOUT_S,
                    pass_fds=(lock,),
                    env=environment,
                )
            except subprocess.TimeoutExpired as error:
                raise OSError(errno.ETIMEDOUT, f"it took more than {TIMEOUT_S:.0f} s", command[0]) from error
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2].strip()
            raise OSError(errno.EIO, reason or f"it ended with {done.returncode}", command[0])
        return done.stdout.decode(errors="replace")


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))
