"""The source's end: several connections that share the blocks of all files."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from hostler import errors
from hostler.drivers.images import Checkpoint, ProgressListener, extents, ledger, manifest, state, x509
from hostler.drivers.images.flight import BUFFERS, Flight, Parcel
from hostler.drivers.images.link import Broken, Link, NoSuchExport, Outage
from hostler.drivers.images.mending import Mender
from hostler.drivers.images.notes import Notes
from hostler.drivers.images.outgoing import Outgoing
from hostler.drivers.images.pace import Pace
from hostler.drivers.images.proof import Proof
from hostler.objects import ImageDigest, ReceiverAddress

LOG = logging.getLogger(__name__)

#: Blocks that are written again when a connection breaks; a flush for each so many.
FLUSH_BLOCKS = 64
PROGRESS_INTERVAL_S = 0.25
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class NbdSender:
    """Sends files to nbdkit over up to *connections* TLS connections, each with a thread of its own."""

    def __init__(
        self,
        run_dir: Path | str,
        connections: int = 4,
        *,
        encrypt: bool = True,
        certificates: x509.Files | None = None,
    ) -> None:
        self._run_dir = Path(run_dir)
        self._proof = Proof(self._run_dir, certificates, encrypt=encrypt)
        self._connections = min(connections, max(2, os.cpu_count() or 1))

    def send(
        self,
        address: ReceiverAddress,
        progress: ProgressListener,
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> list[ImageDigest]:
        """Send every export of *address*, no faster than *pace*; return what left, in the order of the exports.

        *checkpoint* is called by every connection before each block, and by the caller's thread while it
        waits for them.
        """
        state.migration_directory(self._run_dir, address.username)
        files: list[Outgoing] = []
        try:
            for export in address.exports:
                checkpoint()
                files.append(Outgoing(export))
            with self._proof.files(address) as key_file:
                boot = state.boot(self._run_dir)
                outage = Outage(timeout_s)
                copy = _Copy(address, key_file, files, checkpoint, outage, pace or Pace(), boot)
                copy.run(self._connections, progress)
            return [file.digest() for file in files]
        finally:
            for file in files:
                file.close()

    def mend(
        self,
        address: ReceiverAddress,
        left: Sequence[ImageDigest],
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> int:
        """See that the destination's disk holds what *left*; return how many blocks were sent again."""
        mended = 0
        with self._proof.files(address) as key_file:
            mender = Mender(
                partial(_connected, address, key_file), checkpoint, Outage(timeout_s), pace or Pace()
            )
            for export, digest in zip(address.exports, left, strict=True):
                with closing(Outgoing(export)) as file:
                    mended += mender.mend(file, digest)
        return mended

    def certificate(self) -> str:
        """Return what this host shows, empty where nobody asks for it or it cannot be read."""
        return self._proof.certificate()


@contextmanager
def _connected(address: ReceiverAddress, key_file: Path | None, name: str, file: Outgoing) -> Iterator[Link]:
    """Hold a connection to an export for the thread that is here."""
    link = Link(address, name, key_file, file.path)
    try:
        link.connect()
        yield link
    finally:
        link.close()


class _Stopped(Exception):
    """The copy ends; this thread has nothing to say about it."""


class _Copy:
    """What the connections of one :meth:`NbdSender.send` share."""

    def __init__(
        self,
        address: ReceiverAddress,
        key_file: Path | None,
        files: list[Outgoing],
        checkpoint: Checkpoint,
        outage: Outage,
        pace: Pace,
        source_boot: bytes,
    ) -> None:
        self.address = address
        self.key_file = key_file
        self.files = files
        self.checkpoint = checkpoint
        self.outage = outage
        self.pace = pace
        self.source_boot = source_boot
        self.stopping = threading.Event()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._links: set[Link] = set()

    def run(self, connections: int, progress: ProgressListener) -> None:
        """Carry everything over; raise whatever any thread, or *checkpoint*, raises."""
        threads = [threading.Thread(target=self._work, name=f"send-{n}") for n in range(connections)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads) and not self.stopping.is_set():
                self.checkpoint()
                self._report(progress)
                self._wait(threads)
            self._report(progress)
        except BaseException as failure:  # noqa: BLE001 - raised again below, when the threads are gone
            self.fail(failure)
        finally:
            self._join(threads)
        if self._failure is not None:
            raise self._failure

    def _wait(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            if thread.is_alive():
                thread.join(PROGRESS_INTERVAL_S)
                return

    def _report(self, progress: ProgressListener) -> None:
        for file in self.files:
            if file.surveyed:  # before that nobody knows how much of it has arrived
                progress(file.progress())

    def _join(self, threads: list[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in threads):
            if self.stopping.is_set():
                self._cut_links()
            for thread in threads:
                thread.join(0.05)

    def _work(self) -> None:
        try:
            carrier = Carrier(self)
            while (file := self._pick()) is not None:
                try:
                    carrier.carry(file)
                finally:
                    self._leave(file)
        except _Stopped:
            pass
        except BaseException as failure:  # noqa: BLE001 - raised again in the caller's thread
            self.fail(failure)

    def _pick(self) -> Outgoing | None:
        """Return the file with the fewest connections of those that have work for one more."""
        with self._lock:
            open_files = [file for file in self.files if not file.surveyed or file.waiting]
            fresh = [file for file in open_files if file.workers < -(-file.size_bytes // extents.BLOCK_BYTES)]
            file = min(
                fresh or [f for f in open_files if not f.workers], key=lambda f: f.workers, default=None
            )
            if file is not None:
                file.workers += 1
            return file

    def _leave(self, file: Outgoing) -> None:
        with self._lock:
            file.workers -= 1

    def fail(self, failure: BaseException) -> None:
        """Stop everything because of *failure*; the first one counts."""
        with self._lock:
            if self._failure is None:
                self._failure = failure
        self.stopping.set()

    def _cut_links(self) -> None:
        with self._lock:
            for link in self._links:
                link.cut()

    @contextmanager
    def connected(self, name: str, file: Outgoing) -> Iterator[Link]:
        """Hold a connection to an export that :meth:`_cut_links` can reach."""
        link = Link(self.address, name, self.key_file, file.path)
        with self._lock:
            self._links.add(link)
        try:
            link.connect()
            yield link
        finally:
            link.close()
            with self._lock:
                self._links.discard(link)

    @contextmanager
    def ledger(self, file: Outgoing) -> Iterator[Link | None]:
        """Hold a connection to a file's ledger; None where the receiver, of an earlier version, keeps none."""
        with ExitStack() as opened:
            link = None
            with suppress(NoSuchExport):
                link = opened.enter_context(self.connected(f"{file.export.name}.ledger", file))
            yield link

    def boot(self, file: Outgoing) -> bytes:
        """Return what tells the run of the destination's kernel; nothing where the receiver does not say."""
        with suppress(NoSuchExport), self.connected("boot", file) as link:
            return link.read(ledger.STAMP_BYTES, 0)
        return b""

    def go_on(self) -> None:
        """Raise if the copy has to stop."""
        if self.stopping.is_set():
            raise _Stopped
        self.checkpoint()


class Carrier:
    """One thread's share: buffers, a connection, and the blocks that are not on stable storage yet."""

    def __init__(self, copy: _Copy) -> None:
        self._copy = copy
        self._buffers = [extents.Buffer() for _ in range(BUFFERS)]
        self._again: deque[int] = deque()
        self._flying: set[int] = set()
        self._unflushed: list[int] = []
        self._boot = b""  #: the run of the destination's kernel that holds the unflushed ones

    def carry(self, file: Outgoing) -> None:
        """Send blocks of *file* until none is left, and the manifest if this was the last."""
        self._persist(file, file.export.name, self._send_blocks)
        if file.claim_finish():
            file.check_unchanged()
            self._persist(file, f"{file.export.name}.manifest", self._send_manifest)

    def _persist(self, file: Outgoing, name: str, action: Callable[[Outgoing, Link], None]) -> None:
        """Do *action* over a connection, and over another one when it breaks."""
        pause = FIRST_PAUSE_S
        while True:
            self._copy.go_on()
            try:
                with self._copy.connected(name, file) as link:
                    pause = FIRST_PAUSE_S
                    action(file, link)
                    return
            except Broken as broken:
                if self._copy.stopping.is_set():
                    raise _Stopped from broken
                self._copy.outage.went_on(file.path, broken)
            self._copy.stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _send_blocks(self, file: Outgoing, link: Link) -> None:
        boot = self._copy.boot(file)
        with self._copy.ledger(file) as kept:
            self._take_up(boot)
            stamp = file.stamp(self._copy.source_boot)
            self._survey(file, link, kept, stamp, boot)
            notes = Notes(file, kept, self._copy.go_on, stamp, boot)
            flight = self._flight(file, link, notes)
            while (slot := self._next(file)) is not None:
                self._flying.add(slot)
                self._copy.go_on()
                self._send_block(file, slot, flight)
                if len(self._unflushed) + len(self._flying) >= FLUSH_BLOCKS:
                    self._flush(file, link, notes, flight)
            self._flush(file, link, notes, flight)

    def _flight(self, file: Outgoing, link: Link, notes: Notes) -> Flight:
        def landed(parcel: Parcel) -> None:
            self._copy.outage.over()
            file.sent(parcel.slot, parcel.hash, parcel.block.data_bytes, parcel.sent_bytes)
            notes.sent(parcel.slot, parcel.block.data_bytes)
            self._unflushed.append(parcel.slot)
            self._flying.remove(parcel.slot)

        return Flight(link, self._buffers, self._copy.pace, self._copy.go_on, landed)

    def _take_up(self, boot: bytes) -> None:
        """Send again what the broken connection did not finish, and what the destination lost if it rebooted."""
        self._again.extend(sorted(self._flying))
        self._flying.clear()
        if not boot or boot != self._boot:
            self._again.extend(self._unflushed)
            self._unflushed.clear()
        self._boot = boot

    def _survey(self, file: Outgoing, link: Link, kept: Link | None, stamp: bytes, boot: bytes) -> None:
        with file.lock:
            if file.surveyed:
                return
            if not file.fits(link.size_bytes):
                raise file.failed(
                    f"the destination offers {link.size_bytes} bytes, not {file.export.size_bytes}"
                )
            if kept is not None:
                file.begin_ledger(ledger.free_frame(kept))
            known = ledger.arrived(kept, boot) if kept is not None else ()
            file.survey(link.data_extents(file.size_bytes), known, stamp)

    def _next(self, file: Outgoing) -> int | None:
        return self._again.popleft() if self._again else file.take()

    def _send_block(self, file: Outgoing, slot: int, flight: Flight) -> None:
        """See to it that the destination gets a block."""
        index = file.blocks[slot]
        buffer = flight.buffer()
        with file.reading():
            block = extents.read_block(file.fd, index, file.size_bytes, buffer)
        found = extents.block_hash(block)
        zeros = (block.gaps if found else [(0, len(block.view))]) if file.stale(slot) else []
        data = block.segments if found else []
        if file.arrived_before(slot, found):
            zeros = data = []
        flight.send(Parcel(slot, block, found), index * extents.BLOCK_BYTES, zeros, data)

    def _flush(self, file: Outgoing, link: Link, notes: Notes, flight: Flight) -> None:
        """What this connection wrote, this connection flushes: no promise about others is relied on."""
        flight.land()
        notes.write()
        link.flush(self._copy.go_on)
        notes.flushed()
        self._copy.outage.over()
        file.settle(len(self._unflushed))
        self._unflushed.clear()

    def _send_manifest(self, file: Outgoing, link: Link) -> None:
        packed = memoryview(
            manifest.pack(self._copy.address.username, file.size_bytes, file.allocated_bytes, file.body())
        )
        if link.size_bytes < len(packed):
            raise errors.ImageTransferError(
                path=file.path, reason="the destination has no room for its manifest"
            )
        for offset in range(0, len(packed), extents.BLOCK_BYTES):
            link.write(packed[offset : offset + extents.BLOCK_BYTES], offset)
        link.flush(self._copy.go_on)
        self._copy.outage.over()
