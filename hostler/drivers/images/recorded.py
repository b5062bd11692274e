"""What is on record of a migration's receiver: whoever takes the worker's place finds its processes by it.

An earlier version refuses a record with a key that it does not know: what is new stands in a file of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hostler.drivers import processes as process
from hostler.drivers.images import state
from hostler.objects import Export, Record

RECEIVER, UNPACKER = "receiver.json", "unpacker.json"


@dataclass(frozen=True)
class Receiving(Record):
    """A receiver as it is recorded."""

    migration: str
    peer: str
    port: int  #: 0 before the first start
    exports: list[Export]
    process: process.Process | None = None


@dataclass(frozen=True)
class Unpacking(Record):
    """The process beside it, which takes packed blocks."""

    port: int
    process: process.Process | None = None


def receiving(home: Path) -> Receiving | None:
    """Return the receiver that is recorded in *home*."""
    found = _read(home / RECEIVER)
    return Receiving.from_dict(found) if found else None


def unpacking(home: Path) -> Unpacking | None:
    """Return the process that is recorded beside it."""
    found = _read(home / UNPACKER)
    return Unpacking.from_dict(found) if found else None


def write(home: Path, record: Receiving | Unpacking) -> None:
    """Put it in the place of the one before."""
    name = RECEIVER if isinstance(record, Receiving) else UNPACKER
    state.write_private(home / name, json.dumps(record.to_dict(), indent=1))


def _read(path: Path) -> dict[str, object] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
