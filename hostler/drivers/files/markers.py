"""The marker file that says whose a directory is, and what was done in it."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from hostler.drivers.files import disk
from hostler.objects import DEST, SOURCE, Record

NAME = ".hostler-migration"
#: A marker larger than this is none of ours.
_LIMIT_BYTES = 1 << 20

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
#: Names that a migration gives: a file set aside, a removal under way, a part directory, a copy that is
#: kept, the record of a directory made.
_OURS = re.compile(
    rf"\.(?P<migration>{UUID})(_resize|_removed|\.part(\.new|\.old)?|\.kept(\.old)?|\.made)\Z", re.DOTALL
)

_TOKEN = re.compile(rf"{re.escape(NAME)}\.(?P<migration>{UUID})\.({SOURCE}|{DEST})")


@dataclass(frozen=True)
class Marker(Record):
    """The contents of a marker file."""

    migration: str
    what: str
    instance: str = ""
    #: in a part directory: name of a unit -> inode of what is, or is about to be, at its final path
    placed: dict[str, int] = field(default_factory=dict)
    #: in a part directory: names beside it that the migration uses as it found them
    relies: list[str] = field(default_factory=list)
    #: in a part directory: names beside it of SHARED units that the migration receives, for itself and for others
    receives: list[str] = field(default_factory=list)


#: Stands for a marker that cannot be read: somebody's, not ours.
UNREADABLE = Marker(migration="unknown", what="an unreadable marker")


def migration_in(name: str) -> str | None:
    """Return the migration whose uuid a migration has put into this file *name*."""
    found = _OURS.search(name)
    return found["migration"] if found else None


def migration_of_draft(name: str) -> str | None:
    """Return the migration that was writing a marker under this *name* when it was killed."""
    found = re.fullmatch(rf"{re.escape(NAME)}\.({UUID})", name)
    return found[1] if found else None


def token_name(migration: str, role: str) -> str:
    """Return the name of the file by which the host in *role* shows the other one that both have a directory."""
    return f"{NAME}.{migration}.{role}"


def migration_of_token(name: str) -> str | None:
    """Return the migration whose token file has this *name*."""
    found = _TOKEN.fullmatch(name)
    return found["migration"] if found else None


def made_directory(name: str) -> str | None:
    """Return which directory this *name* of a note says was made, beside the note."""
    found = _OURS.search(name)
    return name[: found.start()] if found and name.endswith(".made") else None


def read(directory: Path) -> Marker | None:
    """Return the marker in *directory*; None if there is none."""
    try:
        with disk.opened(directory / NAME) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return UNREADABLE
            text = os.read(fd, _LIMIT_BYTES)
        return Marker.from_dict(json.loads(text))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, AttributeError):
        return UNREADABLE


def write(directory: Path, marker: Marker) -> None:
    """Put *marker* into *directory*, or in the place of an earlier one of ours, at once and durably."""
    draft = _draft(directory, marker.migration)
    disk.write_file(draft, json.dumps(marker.to_dict(), sort_keys=True) + "\n")
    disk.replace(draft, directory / NAME)
    disk.sync_directory(directory)


def clear(directory: Path, migration: str) -> None:
    """Remove the marker of *migration*, and what a killed :func:`write` has left of it."""
    draft = _draft(directory, migration)
    if disk.look(draft) is not None:
        disk.unlink(draft)
    marker = read(directory)
    if marker is not None and marker.migration == migration:
        disk.unlink(directory / NAME)
    disk.sync_directory(directory)


def _draft(directory: Path, migration: str) -> Path:
    return directory / f"{NAME}.{migration}"
