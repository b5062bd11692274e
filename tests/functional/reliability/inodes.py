"""A copied world has other inodes: whatever was written down of them is brought in line."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

#: Where JSON names inodes: a unit's own, and those that a marker says are placed.
_NAMED = re.compile(r'("inode": )(\d+)|"placed": \{[^}]*\}')
_NUMBER = re.compile(r"(?<=: )\d+")


def inodes_below(top: Path) -> dict[str, int]:
    """Return the inode of each path below *top*, relative to it."""
    return {str(path.relative_to(top)): path.lstat().st_ino for path in top.rglob("*")}


def follow(top: Path, records: Path, before: Mapping[str, int]) -> None:
    """Write the inodes that paths below *top* have now over those that they had *before*: in files and records."""
    now = inodes_below(top)
    moved = {str(number): str(now[path]) for path, number in before.items()}
    for path in now:
        _follow_in_file(top / path, moved)
    database = sqlite3.connect(records, timeout=10)
    try:
        with database:
            _follow_in_records(database, moved)
    finally:
        database.close()


def _follow_in_file(path: Path, moved: Mapping[str, str]) -> None:
    if not path.is_file() or path.is_symlink() or path.stat().st_size > 1 << 16:
        return
    found = path.read_bytes()
    if b'"inode"' in found or b'"placed"' in found:
        path.write_text(_renumbered(found.decode(), moved))


def _follow_in_records(database: sqlite3.Connection, moved: Mapping[str, str]) -> None:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        for column in [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]:
            query = f"""SELECT rowid, "{column}" FROM "{table}" WHERE "{column}" LIKE '%"inode": %'"""
            for number, text in database.execute(query).fetchall():
                changed = (_renumbered(text, moved), number)
                database.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', changed)


def _renumbered(text: str, moved: Mapping[str, str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        return _NUMBER.sub(lambda number: moved.get(number[0], number[0]), found[0])

    return _NAMED.sub(replaced, text)
