"""The files of servers on this host's own file systems."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from hostler.drivers import devices
from hostler.drivers.files import Digest, disk, shared, space, tokens
from hostler.drivers.files.arrival import Arrival
from hostler.drivers.files.aside import Aside
from hostler.drivers.files.blocks import Blocks
from hostler.drivers.files.chain import Chains
from hostler.drivers.files.kept import Kept, KeptCopies
from hostler.drivers.files.lvm import Lvm
from hostler.drivers.files.marked import Marked, MarkKind, Marks
from hostler.drivers.files.parts import Parts, part_name
from hostler.drivers.files.place import Place, as_destination, as_source
from hostler.drivers.files.resizing import Resizing
from hostler.drivers.files.room import Room, absent, changed, missing, other_contents
from hostler.drivers.files.survey import Survey
from hostler.drivers.files.uses import Uses
from hostler.objects import DEST, Disk, DiskChange, Domain, SwapArea, Unit, UnitKind


def _assume_in_use(_: str) -> bool:
    return True


class LocalFiles:
    """Implements :class:`hostler.drivers.files.InstanceFiles`.

    *root* is put before every path when the disk is touched, so that two hosts of a test can live in two
    temporary directories; no path that comes back, or is given to a *digest*, carries it. *in_use*
    says whether any server of this host uses a shared file, or a block device; without it, shared files are never
    removed, and no device is overwritten. *block_devices*: paths, or patterns of them, of the block devices that
    arriving servers may overwrite. *keep_s*: for how long an undo leaves what has arrived; 0: not at all.
    """

    def __init__(
        self,
        instances_path: str,
        root: str = "/",
        *,
        host: str | None = None,
        in_use: Callable[[str], bool] = _assume_in_use,
        nvram_path: str = Place.nvram_path,
        tpm_path: str = Place.tpm_path,
        lock_path: str = Place.lock_path,
        devices_path: str = Place.devices_path,
        kept_path: str = Place.kept_path,
        keep_s: float = 0,
        block_devices: Sequence[str] = (),
        lvm: Lvm | None = None,
    ) -> None:
        self._place = Place(
            host=host or platform.node(),
            instances_path=instances_path,
            root=root,
            nvram_path=nvram_path,
            tpm_path=tpm_path,
            lock_path=lock_path,
            devices_path=devices_path,
            kept_path=kept_path,
        )
        lvm = lvm or Lvm(self._place.at(lock_path).with_name("lvm.lock"))
        self._blocks = Blocks(self._place, lvm, block_devices, in_use)
        self._aside = Aside(self._place)
        self._parts = Parts(self._place)
        self._kept = KeptCopies(self._place, self._parts, keep_s)
        self._arrival = Arrival(self._place, self._parts, in_use)
        self._resizing = Resizing(self._place)
        self._marks = Marks(self._place)

    def survey(
        self, domain: Domain, others: Sequence[Domain], digest: Digest
    ) -> tuple[list[Unit], list[str]]:
        """Return what moves and what keeps it from moving; the rules are in :mod:`.survey`."""
        with as_source(self._place):
            return Survey(self._place, domain, others, digest, self._blocks.survey).take()

    def swap_area(self, disk: Disk) -> SwapArea | None:
        """Return the swap area on *disk*; how it is known is in :mod:`.resizing`."""
        return self._resizing.swap_area(disk)

    def destination_problems(
        self,
        units: Sequence[Unit],
        instance: str,
        migration: str,
        digest: Digest,
        *,
        here: Collection[str] = (),
    ) -> list[str]:
        """Return why *units* cannot be received here."""
        with as_destination(self._place):
            kept = self._kept.directories()
            found = Room(self._place, instance, migration, digest, here, kept).problems(_files(units))
            blocks = _blocks(units)
            same_host = any(unit.path in here for unit in blocks)
            return found + self._blocks.problems(blocks, migration, same_host=same_host)

    def write_token(self, directory: str, migration: str, role: str) -> str:
        """Leave a token in *directory* and return it."""
        with as_destination(self._place) if role == DEST else as_source(self._place):
            return tokens.write(self._place.at(directory), migration, role)

    def token(self, directory: str, migration: str, role: str) -> str | None:
        """Return the token that the host in *role* has left in *directory*, as this host, the other one, sees it."""
        with as_source(self._place) if role == DEST else as_destination(self._place):
            return tokens.read(self._place.at(directory), migration, role)

    def remove_token(self, directory: str, migration: str, role: str) -> None:
        """Remove it."""
        with as_destination(self._place) if role == DEST else as_source(self._place):
            tokens.remove(self._place.at(directory), migration, role)

    def missing(self, units: Sequence[Unit]) -> list[Unit]:
        """Return the units that would have to be received."""
        return missing(self._place, units)

    def aside(self, unit: Unit, migration: str) -> str:
        """Return the path to read *unit* from once it is set aside."""
        if unit.block:
            return self._blocks.aside(unit, migration)
        return self._aside.path(unit, migration)

    def set_aside(self, unit: Unit, migration: str) -> None:
        """Rename *unit* out of the way."""
        with as_source(self._place):
            (self._blocks if unit.block else self._aside).set_aside(unit, migration)

    def put_back(self, unit: Unit, migration: str) -> None:
        """Rename *unit* back; the mark goes last."""
        with as_source(self._place):
            (self._blocks if unit.block else self._aside).put_back(unit, migration)

    def way_back_problems(
        self, units: Sequence[Unit], migration: str, digest: Digest, *, here: Collection[str] = ()
    ) -> list[str]:
        """Return why *units* could not be put back whole."""
        with as_source(self._place):
            own = [
                problem
                for unit in _files(units)
                for problem in self._aside.problems(unit, migration, unit.path in here)
            ]
            for unit in _blocks(units):
                own += self._blocks.way_back_problems(unit, migration, same_host=unit.path in here)
            return own + changed(self._place, units, digest)

    def remove_aside(self, unit: Unit, migration: str) -> None:
        """Remove what was set aside; renamed once more before, so that a removal cut short knows its own."""
        with as_source(self._place):
            (self._blocks if unit.block else self._aside).remove_aside(unit, migration)

    def part(self, unit: Unit, instance: str, migration: str) -> str:
        """Return the path to write *unit* to."""
        if unit.block:
            return self._blocks.part(unit, migration)
        return self._parts.path(unit, instance, migration)

    def make_parts(
        self, units: Sequence[Unit], instance: str, migration: str, *, over: Collection[str] = ()
    ) -> list[Unit]:
        """Make a part directory beside each final place, also where a SHARED unit is relied on."""
        absent = self._parts.make(_files(units), instance, migration, over)
        with as_destination(self._place):
            for unit in _blocks(units):
                self._blocks.make(unit, instance, migration)
        return [unit for unit in units if unit.kind is UnitKind.OWN or unit in absent]

    @contextmanager
    def promising(self) -> Iterator[None]:
        """Hold the host's lock of promises."""
        with shared.locked(self._place.at(self._place.lock_path).with_name("space.lock")):
            yield

    def space_problems(
        self, units: Sequence[Unit], promised: Mapping[str, int], ours: Sequence[str] = ()
    ) -> list[str]:
        """Return which file systems have no room; what is kept there is given up where that makes enough.

        A volume group has given its own already.
        """
        facts = (self._place, _files(units), promised)
        with as_destination(self._place):
            found = space.problems(*facts, ours)
            kept = self._kept.directories()
            if not found or not kept or space.problems(*facts, [*ours, *kept]):
                return found
            devices = space.devices(self._place, _files(units))
            while found and self._kept.drop_oldest(devices):
                found = space.problems(*facts, ours)
            return found

    def space_needed(self, units: Sequence[Unit], instance: str, migration: str) -> dict[str, int]:
        """Return what each part directory will come to hold."""
        need = space.needed(_files(units))
        return {f"{parent}/{part_name(instance, migration)}": size for parent, size in need.items()}

    def other_contents(self, units: Sequence[Unit], digest: Digest) -> list[str]:
        """Return which SHARED units are not those of the source."""
        with as_destination(self._place):
            return other_contents(self._place, units, digest)

    def keep_parts(self, units: Sequence[Unit], instance: str, migration: str) -> None:
        """Set aside the images in the part directories, if any are to be kept."""
        if self._kept.enabled:
            with as_destination(self._place):
                self._kept.keep(_files(units), instance, migration)

    def take_up(self, units: Sequence[Unit], instance: str, migration: str) -> list[str]:
        """Move what is kept into the part directories."""
        with as_destination(self._place):
            return self._kept.take_up(_files(units), instance, migration)

    def kept(self) -> list[Kept]:
        """Return what is kept; those whose time is over are dropped by :meth:`drop_kept`."""
        return self._kept.all()

    def drop_kept(self, needless: Callable[[Kept], bool]) -> list[Kept]:
        """Remove what is kept for too long, or is *needless*."""
        now = datetime.now(UTC)
        with as_destination(self._place):
            over = [one for one in self._kept.all() if one.expired(self._kept.lasts_s, now) or needless(one)]
            for one in over:
                self._kept.drop(one)
        return over

    def remove_parts(self, units: Sequence[Unit], instance: str, migration: str) -> None:
        """Remove the part directories, and the parents that were made for them if they are empty."""
        self._parts.remove(_files(units), instance, migration)
        with as_destination(self._place):
            for unit in _blocks(units):
                self._blocks.remove(unit, migration)

    def settle(self, units: Sequence[Unit], instance: str, migration: str) -> None:
        """Forget how to take back what was placed.

        The server must be defined here by then: see :mod:`.shared`.
        """
        self._parts.remove(_files(units), instance, migration)
        with as_destination(self._place):
            for unit in _blocks(units):
                self._blocks.settle(unit, migration)

    def place(self, unit: Unit, instance: str, migration: str) -> None:
        """Rename *unit* into its final place."""
        if not unit.block:
            self._arrival.place(unit, instance, migration)
            return
        with as_destination(self._place):
            self._blocks.place(unit, migration)

    def unplace(self, unit: Unit, instance: str, migration: str) -> None:
        """Rename *unit* back into its part directory; the rule for shared files is in :mod:`.shared`."""
        if not unit.block:
            self._arrival.unplace(unit, instance, migration)
            return
        with as_destination(self._place):
            self._blocks.unplace(unit, migration)

    def strangers(self, units: Sequence[Unit], instance: str, migration: str) -> list[str]:
        """Return what is in the places of *units* and is not the migration's."""
        with as_destination(self._place):
            found = [self._arrival.stranger(unit, instance, migration) for unit in _files(units)]
            found += [self._blocks.stranger(unit, migration) for unit in _blocks(units)]
        return [problem for problem in found if problem]

    def written(self, units: Sequence[Unit], instance: str, migration: str) -> list[str]:
        """Return which images were written to since they were placed, as their times say.

        A block device has none, and may have been.
        """
        with as_destination(self._place):
            found = [
                path for unit in _files(units) for path in self._arrival.written(unit, instance, migration)
            ]
        return found + [unit.path for unit in _blocks(units)]

    def resize(self, change: DiskChange, checkpoint: Callable[[], None], keep: int | None) -> None:
        """Give a placed disk its new size; the rules are in :mod:`.resizing`."""
        if change.block:
            with as_destination(self._place):
                self._blocks.resize(change)
        self._resizing.resize(change, checkpoint, keep)

    def free(self, paths: Sequence[str]) -> list[str]:
        """Return those of *paths* at which nothing is."""
        return [path for path in paths if disk.look(self._place.at(path)) is None]

    def remove_made(self, paths: Sequence[str]) -> None:
        """Remove what was made there; no link is followed."""
        with as_destination(self._place):
            for file in map(self._place.at, paths):
                if disk.is_directory(disk.look(file)):
                    disk.remove_tree(file)
                elif disk.look(file) is not None:
                    disk.unlink(file)
                    disk.sync_directory(file.parent)

    def absent(self, units: Sequence[Unit]) -> list[str]:
        """Return which files of *units* are not in place."""
        with as_destination(self._place):
            found = [problem for unit in _blocks(units) for problem in self._blocks.absent(unit)]
        return absent(self._place, _files(units)) + found

    def users(self, path: str, domains: Sequence[Domain]) -> list[str]:
        """Return the servers among *domains* that use the file at *path*, also as a backing file."""
        return [use.server for use in Uses(self._place, domains, Chains(self._place.at)).of(path)]

    def marked(self, domains: Sequence[Domain], more: Sequence[str] = ()) -> list[Marked]:
        """Return every path with our mark; where it looks is in :mod:`.marked`."""
        with as_source(self._place):
            found = self._marks.find(domains, more) + self._blocks.marked()
            return [one for one in found if one.kind is not MarkKind.KEPT or self._kept.expired(one.path)]

    def remove_marked(self, mark: Marked, domains: Sequence[Domain]) -> None:
        """Remove one of them."""
        with as_source(self._place):
            if not self._blocks.remove_marked(mark):
                self._marks.remove(mark, domains)

    def same(self, path: str, other: str) -> bool:
        """Tell whether two paths name one file or one device."""
        try:
            status, its = self._place.at(path).stat(), self._place.at(other).stat()
        except OSError:
            return path == other
        return devices.identity(status) == devices.identity(its)


def _files(units: Sequence[Unit]) -> list[Unit]:
    return [unit for unit in units if unit.block is None]


def _blocks(units: Sequence[Unit]) -> list[Unit]:
    return [unit for unit in units if unit.block is not None]
