"""What hostler asks of whatever carries image files from one host to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from hostler.drivers.images.check import Difference
from hostler.drivers.images.pace import Pace
from hostler.objects import CopyProgress, Export, Identity, ImageDigest, ReceiverAddress

#: Called now and then, from the sender's thread, with the state of one export.
ProgressListener = Callable[[CopyProgress], None]
#: Called often by whatever takes long, a sender's several threads included; raises
#: :class:`hostler.errors.Interrupted` when the leg must stop.
Checkpoint = Callable[[], None]
#: A source that has to prove no more than that it has the copy's key.
UNPROVEN = Identity()


class ImageReceiver(Protocol):
    """The destination's end: takes the bytes of one migration from one peer.

    It belongs to the worker, not to the step that asked for it: it is recorded on the host and comes back
    when the worker does (:meth:`restore`), until :meth:`close`.
    """

    def take_stock(self, migration: str, exports: Sequence[Export], checkpoint: Checkpoint) -> None:
        """Read the part files that are there before their receiver is: older copies, of which what fits is not sent.

        Nothing of one that a receiver of *migration* has taken bytes for. *checkpoint* is called before each block.
        """

    def open(
        self, migration: str, exports: Sequence[Export], peer: str, identity: Identity = UNPROVEN
    ) -> ReceiverAddress:
        """Take *exports* from the address *peer*, which is *identity*; return where and with which key.

        The part files' directories exist. Each part file is made where missing, sparse and ``size_bytes``
        long. Asked again for the same migration it returns the same key, and runs again if it had died. A
        receiver that cannot run is :class:`hostler.errors.ReceiverUnavailable`, and so is a source that does not
        prove who it is where that is asked for.
        """

    def close(self, migration: str) -> None:
        """End it, see its process gone, forget its key. Nothing if there is none.

        Part files stay, and so do the manifests: the verification reads them.
        """

    def forget(self, migration: str) -> None:
        """Close it and remove what it kept of the migration, the manifests too. Part files stay."""

    def restore(self) -> list[str]:
        """Bring back what was open when this host or its worker went away, each at its port and with its key.

        Returns the migrations. All are tried; if some cannot come back (a part file is gone, the port is
        taken), the first one's :class:`hostler.errors.ReceiverUnavailable` is raised then: the worker logs it
        and carries on.
        """

    def open_migrations(self) -> list[str]:
        """Return the migrations whose receiver is recorded on this host."""

    def never_packed(self) -> str:
        """Return why no block can arrive packed here; empty where it can, or the settings say that none is to."""


class ImageSender(Protocol):
    """The source's end."""

    def send(
        self,
        address: ReceiverAddress,
        progress: ProgressListener,
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> list[ImageDigest]:
        """Send every export of *address*, no faster than *pace*; return what left, in the order of the exports.

        Only extents that hold data are read, hashed and sent. When it returns, the receiver has everything on
        stable storage, the manifests too. A connection that breaks is made anew and the copy carries on where
        it was; after *timeout_s* seconds without one it is :class:`hostler.errors.ImageTransferError`. A
        source file that changes, shrinks or grows meanwhile is the same error. *checkpoint* is called at
        least every 4 MiB a thread, *progress* several times a second, also while nothing may leave.

        Of what an earlier call brought over, in this process or another, only what the destination is not known
        to have is sent again.
        """

    def mend(
        self,
        address: ReceiverAddress,
        left: Sequence[ImageDigest],
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> int:
        """Ask the destination what lies on its disk, and send again what differs; return how many blocks.

        *left* is what :meth:`send` returned. Only hashes of blocks that differ cross the link. A block that
        differs still is :class:`hostler.errors.ImageMismatch`. A destination whose worker is away for the
        moment, or of an earlier version, is not waited for: :class:`ImageVerifier` reads its disk in the end.
        """

    def certificate(self) -> str:
        """Return the certificate that destinations know this host by, in PEM; empty where they ask for none."""


class ImageVerifier(Protocol):
    """Reads what lies on this host's disks."""

    def verify(self, migration: str, export: Export, expected: ImageDigest, checkpoint: Checkpoint) -> None:
        """Cut the part file to its true size, read it from the disk and compare it with what left; fsync it.

        The receiver is closed by then, and has kept the manifest. The first block that differs is
        :class:`hostler.errors.ImageMismatch`; a manifest that is damaged, or not the one of *expected*, is
        :class:`hostler.errors.InvalidDiskInfo`.
        """

    def compare(
        self, migration: str, export: Export, expected: ImageDigest, checkpoint: Checkpoint
    ) -> Iterator[Difference]:
        """Yield each block of the disk at ``export.part`` that is not what left, read from the disk.

        Nothing is changed. Errors are those of :meth:`verify`, but for the blocks.
        """

    def written_at(self, export: Export) -> datetime | None:
        """Return when the file at ``export.part`` was last written to, as UTC; None of a device."""

    def digest(self, path: str, checkpoint: Checkpoint) -> ImageDigest:
        """Return the digest of a file as :meth:`ImageSender.send` does, reading only allocated extents."""
