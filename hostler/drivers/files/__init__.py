"""What hostler asks of a host's file systems.

Everything made here carries the migration's uuid in its name or in a marker file, and nothing is ever
replaced. What moves is a :class:`~hostler.objects.Unit`: a file, or a directory with all that is in it.

On the source an OWN unit is set aside::

    <parent>/<dir>       ->  <parent>/<dir>_resize     a directory: the marker inside names the migration
    <parent>/web1.qcow2  ->  <parent>/web1.qcow2.<migration>_resize

On the destination a unit arrives in a part directory beside its final place, and is then renamed into it::

    <parent>/<instance>.<migration>.part/<name>  ->  <parent>/<name>
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from hostler.objects import Disk, DiskChange, Domain, SwapArea, Unit

if TYPE_CHECKING:
    from hostler.drivers.files.kept import Kept
    from hostler.drivers.files.marked import Marked

#: Returns the BLAKE3 of a whole file, as :meth:`hostler.drivers.images.ImageVerifier.digest` does.
Digest = Callable[[str], str]


class InstanceFiles(Protocol):
    """The files of this host's servers.

    Every call is idempotent and tells done, half and not from the disk: killed at any point, it may be
    repeated, or undone by its counterpart.
    """

    def survey(
        self, domain: Domain, others: Sequence[Domain], digest: Digest
    ) -> tuple[list[Unit], list[str]]:
        """Return what of *domain* moves, and, as sentences, what keeps it from being moved. It only reads.

        *others* are the other domains of the host: a file that one of them uses, too, moves only if it is
        shared by nature (a backing file, a read-only image).
        """

    def swap_area(self, disk: Disk) -> SwapArea | None:
        """Return the swap area that begins with the first byte of *disk*; None if none does. It only reads."""

    def destination_problems(
        self,
        units: Sequence[Unit],
        instance: str,
        migration: str,
        digest: Digest,
        *,
        here: Collection[str] = (),
    ) -> list[str]:
        """Return, as sentences, why *units* could not be received here. It only reads.

        Space, parents, names taken. A SHARED unit that is here already with the same contents is no problem
        and is not received. An IN_PLACE unit must be the source's very file or directory (inode), and so must those
        at the paths *here*: their names are free when their copies arrive. The sentences leave the host's name to
        :class:`~hostler.errors.MigrationPreCheckError`.
        """

    def write_token(self, directory: str, migration: str, role: str) -> str:
        """Write a file with random contents into *directory*, durably, and return these; asked again, other ones.

        *role*: ``source`` or ``dest``, whose it is; the name carries the migration's uuid.
        """

    def token(self, directory: str, migration: str, role: str) -> str | None:
        """Return what the file of *role*, the other host's, in *directory* says; None if there is none. It only reads.

        What this and the other host's :meth:`write_token` return is the same only if both have that directory.
        """

    def remove_token(self, directory: str, migration: str, role: str) -> None:
        """Remove the file of *role*; nothing if there is none."""

    def missing(self, units: Sequence[Unit]) -> list[Unit]:
        """Return the units that would have to be received: all OWN ones, and the SHARED ones that are not here.

        Never an IN_PLACE one. It only reads.
        """

    def aside(self, unit: Unit, migration: str) -> str:
        """Return the path that *unit* has after :meth:`set_aside`; one that is not OWN keeps its own."""

    def set_aside(self, unit: Unit, migration: str) -> None:
        """Rename *unit* to :meth:`aside`. What is not the inspected file (inode) is left and refused."""

    def put_back(self, unit: Unit, migration: str) -> None:
        """Undo :meth:`set_aside`; nothing if it is where it belongs."""

    def way_back_problems(
        self, units: Sequence[Unit], migration: str, digest: Digest, *, here: Collection[str] = ()
    ) -> list[str]:
        """Return, as sentences, why :meth:`put_back` would not bring *units* back whole. It only reads.

        What was set aside is there, its names are free, the SHARED units are what they were, and the IN_PLACE ones
        are there. *here*: paths that what was placed has until it is set aside in its turn.
        """

    def remove_aside(self, unit: Unit, migration: str) -> None:
        """Remove for good what was set aside, and see it gone. Nothing that lacks our mark is touched."""

    def part(self, unit: Unit, instance: str, migration: str) -> str:
        """Return the path under which *unit* arrives."""

    def make_parts(
        self, units: Sequence[Unit], instance: str, migration: str, *, over: Collection[str] = ()
    ) -> list[Unit]:
        """Make the marked part directories, and in them the directories of the units; give it all units.

        Return those that must be received: all OWN ones, and the SHARED ones that are not here. It holds on to the
        SHARED ones that are; one of the others that another migration receives already, unless that is one of
        those *over*, is :class:`~hostler.errors.SharedFileArriving`.
        """

    def promising(self) -> AbstractContextManager[None]:
        """Let nobody else on this host look what is left, and promise it away, meanwhile."""

    def space_needed(self, units: Sequence[Unit], instance: str, migration: str) -> dict[str, int]:
        """Return how many bytes will arrive in each part directory, when *units* do; not those of block devices."""

    def space_problems(
        self, units: Sequence[Unit], promised: Mapping[str, int], ours: Sequence[str] = ()
    ) -> list[str]:
        """Return, as sentences, which file systems have no room for *units*; give up kept copies that are in the way.

        *promised*: what :meth:`space_needed` said for others; what is in their part directories has arrived. *ours*:
        the part directories of *units*: what :meth:`take_up` has moved there needs no room.
        """

    def other_contents(self, units: Sequence[Unit], digest: Digest) -> list[str]:
        """Return, as sentences, which SHARED *units* that are here have other contents than on the source.

        It only reads.
        """

    def keep_parts(self, units: Sequence[Unit], instance: str, migration: str) -> None:
        """Set the images in the part directories aside for the next attempt, for a while, where that is wished.

        :meth:`remove_parts` removes whatever it leaves.
        """

    def take_up(self, units: Sequence[Unit], instance: str, migration: str) -> list[str]:
        """Move older copies of the images of *units* to where these arrive; return the directories that they come from.

        Those that were kept, the newest first, and one that an operator has put into ``<parent>/<instance>.copy``.
        What is kept of *instance* and is not used is removed. The part directories are there.
        """

    def kept(self) -> list[Kept]:
        """Return what is kept here, the oldest first. It only reads."""

    def drop_kept(self, needless: Callable[[Kept], bool]) -> list[Kept]:
        """Remove, and return, the kept copies whose time is over, and those that are *needless*."""

    def remove_parts(self, units: Sequence[Unit], instance: str, migration: str) -> None:
        """Remove the part directories that carry our mark, with all in them, and see them gone.

        What was placed stays where it is: :meth:`unplace` comes first.
        """

    def settle(self, units: Sequence[Unit], instance: str, migration: str) -> None:
        """Remove the part directories once there is no way back; the server is defined here by then."""

    def place(self, unit: Unit, instance: str, migration: str) -> None:
        """Rename *unit* from its part directory to its final path, never replacing; mode, owner, fsync.

        For every unit that :meth:`missing` named. Whatever else arrived in a directory unit's part is
        dropped. What was placed before, and taken out by :meth:`unplace`, comes back as it is: a guest may
        have used it meanwhile.
        """

    def unplace(self, unit: Unit, instance: str, migration: str) -> None:
        """Undo :meth:`place`: only what this migration placed, by its inode in that directory's marker."""

    def strangers(self, units: Sequence[Unit], instance: str, migration: str) -> list[str]:
        """Return, as sentences, what is in the places of *units* and was not placed there by *migration*.

        It only reads.
        """

    def written(self, units: Sequence[Unit], instance: str, migration: str) -> list[str]:
        """Return the paths of the images of *units* that were written to since they were placed. It only reads."""

    def resize(self, change: DiskChange, checkpoint: Callable[[], None], keep: int | None) -> None:
        """Give a placed disk its new size, in place; nothing of it if it has it.

        An image is grown, and with it a file system that fills it as far as that can be done offline; swap is
        made anew with the UUID and label that it had. *checkpoint* is called while that lasts; the programs that
        do it inherit the descriptor *keep*. :class:`~hostler.errors.ResizeError` if it cannot be done.
        """

    def free(self, paths: Sequence[str]) -> list[str]:
        """Return those of *paths* at which nothing is. It only reads."""

    def remove_made(self, paths: Sequence[str]) -> None:
        """Remove the files and directories at *paths*, which were :meth:`free`; nothing where nothing is."""

    def absent(self, units: Sequence[Unit]) -> list[str]:
        """Return, as sentences, which files of *units* are not at their final paths. It only reads."""

    def marked(self, domains: Sequence[Domain], more: Sequence[str] = ()) -> list[Marked]:
        """Return every path that carries a migration's mark, but for what is kept in its time. It only reads.

        *domains* are those of the host, beside whose disks it looks; *more*: further directories.
        """

    def remove_marked(self, mark: Marked, domains: Sequence[Domain]) -> None:
        """Remove what :meth:`marked` found, and see it gone; nothing if it is.

        What is not as it was found is :class:`~hostler.errors.ForeignObject`, what one of *domains* uses
        :class:`~hostler.errors.MigrationError`: it is left as it is.
        """
