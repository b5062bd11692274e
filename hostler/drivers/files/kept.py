"""Copies that an undo leaves on the destination for a while: the next attempt sends only what differs.

A part directory is renamed beside itself instead of being removed, with the images in it and nothing else::

    <parent>/<instance>.<migration>.part/  ->  <parent>/<instance>.<migration>.kept/

What is kept, and since when, is noted in *kept_path* before that, under the migration's uuid. It is nobody's only
copy: it may be dropped at any time, and is, oldest first, where the room is wanted. A copy that an operator has made
lies in ``<parent>/<instance>.copy/``; its images are taken in the same way, and nothing else there is touched.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from hostler.drivers.files import disk, markers, rename, shared
from hostler.drivers.files.parts import Parts
from hostler.drivers.files.place import Place
from hostler.objects import Record, Unit

LOG = logging.getLogger(__name__)

#: What replaces ``.part`` in the name of a part directory, and what is added to the instance for an operator's copy.
_KEPT, _COPY = ".kept", ".copy"
_NOTE = re.compile(markers.UUID)


@dataclass(frozen=True)
class Kept(Record):
    """The copy that one migration's undo has left."""

    migration: str
    instance: str
    kept_at: str  #: ISO 8601, UTC
    directories: list[str]

    def expired(self, lasts_s: float, now: datetime) -> bool:
        """Whether its time is over; also where the clock was set back behind its beginning."""
        age = now - datetime.fromisoformat(self.kept_at)
        return not timedelta(0) <= age < timedelta(seconds=lasts_s)


class KeptCopies:
    """The copies that are kept on *place*, each for *lasts_s* seconds; 0: none is."""

    def __init__(self, place: Place, parts: Parts, lasts_s: float) -> None:
        self._place = place
        self._parts = parts
        self.lasts_s = lasts_s

    @property
    def enabled(self) -> bool:
        """Whether an undo leaves a copy."""
        return self.lasts_s > 0

    def keep(self, units: Sequence[Unit], instance: str, migration: str) -> None:
        """Rename the part directories that have images of *units*; without such, nothing. The rest is the caller's."""
        with self._locked():
            kept = self._noted(migration)
            if kept is None:
                directories = list(dict.fromkeys(self._worth_keeping(units, instance, migration)))
                if not directories:
                    return
                now = datetime.now(UTC).isoformat()
                kept = Kept(migration, instance, now, directories)
                self._write(kept)
            for path in kept.directories:
                part = self._place.at(path.removesuffix(_KEPT) + ".part")
                if disk.look(part) is not None and self._owned(part, kept):
                    self._drop_others(part, units)
                    rename.rename(part, self._place.at(path))

    def take_up(self, units: Sequence[Unit], instance: str, migration: str) -> list[str]:
        """Move images of earlier copies of *instance* to where *units* arrive; return the copies, the newest first.

        The part directories are there. What is not used of the kept ones is dropped.
        """
        used = []
        with self._locked():
            for kept in reversed([one for one in self.all() if one.instance == instance]):
                for path in kept.directories:
                    directory = self._place.at(path)
                    if self._owned(directory, kept) and self._take(directory, units, instance, migration):
                        used.append(path)
                self._drop(kept)
            for parent in dict.fromkeys(str(PurePosixPath(unit.path).parent) for unit in units):
                path = f"{parent}/{instance}{_COPY}"
                if self._take(self._place.at(path), units, instance, migration):
                    used.append(path)
        return used

    def all(self) -> list[Kept]:
        """Return what is kept, the oldest first."""
        home = self._home
        names = [path.name for path in home.iterdir()] if home.is_dir() else []
        found = [self._noted(name) for name in names if _NOTE.fullmatch(name)]
        return sorted((one for one in found if one is not None), key=lambda one: one.kept_at)

    def directories(self) -> list[str]:
        """Return where it lies."""
        return [path for kept in self.all() for path in kept.directories]

    def expired(self, path: str) -> bool:
        """Whether the time of the kept directory at *path* is over; so is that of one that nothing is noted of."""
        now = datetime.now(UTC)
        return not any(path in one.directories and not one.expired(self.lasts_s, now) for one in self.all())

    def drop(self, kept: Kept) -> None:
        """Remove one for good."""
        with self._locked():
            self._drop(kept)

    def drop_oldest(self, devices: Collection[int]) -> bool:
        """Remove the oldest one that has anything on *devices*; False if there is none."""
        with self._locked():
            for kept in self.all():
                found = [disk.look(self._place.at(path)) for path in kept.directories]
                if any(one is not None and one.st_dev in devices for one in found):
                    LOG.info("the kept copy of server %s goes: its room is wanted", kept.instance)
                    self._drop(kept)
                    return True
        return False

    # -- keeping ------------------------------------------------------------------------------------------

    def _worth_keeping(self, units: Sequence[Unit], instance: str, migration: str) -> Iterator[str]:
        for unit in units:
            directory = self._parts.directory(unit, instance, migration)
            images = [_below(directory / PurePosixPath(unit.path).name, name) for name in _images(unit)]
            found = [disk.look(image) for image in images]
            parent = PurePosixPath(unit.path).parent
            if not self._parts.marker(unit, instance, migration):
                continue
            # A directory that was made for the migration goes with it, and so does what lies in it.
            made = self._parts.made(str(parent), migration)
            if any(one and one.st_blocks for one in found) and not made:
                yield str(parent / directory.name).removesuffix(".part") + _KEPT

    def _drop_others(self, part: Path, units: Sequence[Unit]) -> None:
        """Remove what is no image: a TPM's state, UEFI variables, a definition are sent whole again."""
        images = {
            _below(part / PurePosixPath(unit.path).name, name) for unit in units for name in _images(unit)
        }
        for top, _, names in os.walk(part):
            for file in (Path(top) / name for name in names):
                if file not in images and file != part / markers.NAME:
                    disk.unlink(file)

    # -- using --------------------------------------------------------------------------------------------

    def _take(self, directory: Path, units: Sequence[Unit], instance: str, migration: str) -> bool:
        """Move each image to where its unit arrives, unless one is there."""
        if not disk.is_directory(disk.look(directory)):
            return False
        taken = False
        for unit in units:
            part = self._parts.directory(unit, instance, migration) / PurePosixPath(unit.path).name
            for name in _images(unit):
                old, new = _below(directory / part.name, name), _below(part, name)
                found = disk.look(old)
                if found is None or disk.look(new) is not None or disk.look(new.parent) is None:
                    continue
                # A link is a way to somebody else's file.
                if disk.is_file(found) and found.st_nlink == 1 and _plain(directory, old):
                    rename.rename(old, new)
                    taken = True
        return taken

    # -- notes --------------------------------------------------------------------------------------------

    @property
    def _home(self) -> Path:
        return self._place.at(self._place.kept_path)

    def _noted(self, migration: str) -> Kept | None:
        try:
            kept = Kept.from_dict(json.loads((self._home / migration).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            LOG.warning("%s cannot be read: see what it keeps", self._home / migration)
            return None
        return kept if kept.migration == migration else None

    def _write(self, kept: Kept) -> None:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._home / f"{kept.migration}.new"
        disk.write_file(draft, json.dumps(kept.to_dict(), sort_keys=True) + "\n")
        disk.replace(draft, self._home / kept.migration)
        disk.sync_directory(self._home)

    def _owned(self, directory: Path, kept: Kept) -> bool:
        """Whether *directory* says that it is of that migration."""
        marker = markers.read(directory) if disk.is_directory(disk.look(directory)) else None
        return marker is not None and (marker.migration, marker.instance) == (kept.migration, kept.instance)

    def _drop(self, kept: Kept) -> None:
        for path in kept.directories:
            directory = self._place.at(path)
            removed = directory.with_name(f"{directory.name}.old")
            if disk.look(removed) is not None:
                disk.remove_tree(removed)
            if self._owned(directory, kept):
                rename.rename(directory, removed)
                disk.remove_tree(removed)
            elif disk.look(directory) is not None:
                LOG.warning("%s is not what migration %s has kept: it is left", path, kept.migration)
        disk.unlink(self._home / kept.migration)
        disk.sync_directory(self._home)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with shared.locked(self._place.at(self._place.lock_path).with_name("kept.lock")):
            yield


def _images(unit: Unit) -> list[str]:
    return [entry.name for entry in unit.files if entry.virtual_bytes]


def _below(path: Path, name: str) -> Path:
    return path / name if name else path


def _plain(top: Path, file: Path) -> bool:
    """Whether no directory between *top* and *file* is a link."""
    return all(disk.is_directory(disk.look(one)) for one in file.parents if top in one.parents)
