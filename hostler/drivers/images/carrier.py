"""One thread's share of a copy: it reads blocks, sends them, and sees them on stable storage."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from hostler import errors
from hostler.drivers.images import Checkpoint, extents, ledger, manifest
from hostler.drivers.images.destination import Destination
from hostler.drivers.images.flight import BUFFERS, Flight, Parcel
from hostler.drivers.images.lanes import Lanes, PackedLost
from hostler.drivers.images.link import Broken, Link, Outage
from hostler.drivers.images.notes import Notes
from hostler.drivers.images.outgoing import Outgoing
from hostler.drivers.images.pace import Pace
from hostler.drivers.images.trials import Choice, Never

LOG = logging.getLogger(__name__)

#: Blocks that are written again when a connection breaks; a flush for each so many.
FLUSH_BLOCKS = 64
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class Stopped(Exception):
    """The copy ends; this thread has nothing to say about it."""


@dataclass
class Terms:
    """How a copy goes; shared by its threads."""

    checkpoint: Checkpoint
    outage: Outage
    pace: Pace
    choice: Choice
    source_boot: bytes  #: the run of this host's kernel
    stopping: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        """Raise if the copy has to stop."""
        if self.stopping.is_set():
            raise Stopped
        self.checkpoint()


class Carrier:
    """One thread's share: buffers, a connection, and the blocks that are not on stable storage yet."""

    def __init__(self, destination: Destination, terms: Terms) -> None:
        self._to = destination
        self._terms = terms
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
            self._terms.go_on()
            try:
                with self._to.connected(name, file) as link:
                    pause = FIRST_PAUSE_S
                    action(file, link)
                    return
            except PackedLost:
                self._lose(flushed=False)
                continue
            except Broken as broken:
                self._lose(flushed=True)
                if self._terms.stopping.is_set():
                    raise Stopped from broken
                self._terms.outage.went_on(file.path, broken)
            self._terms.stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _send_blocks(self, file: Outgoing, link: Link) -> None:
        boot = self._to.boot(file)
        with self._to.ledger(file) as kept, ExitStack() as opened:
            self._take_up(boot)
            stamp = file.stamp(self._terms.source_boot)
            self._survey(file, link, kept, stamp, boot)
            notes = Notes(file, kept, self._terms.go_on, stamp, boot)
            # a second connection costs more than a file of one block
            choice = self._terms.choice if file.size_bytes > extents.BLOCK_BYTES else Never()
            connect = partial(self._open_packed, file, opened)
            lanes = Lanes(link, choice, connect, partial(self._complain, file))
            flight = self._flight(file, lanes, notes)
            while (slot := self._next(file)) is not None:
                self._flying.add(slot)
                self._terms.go_on()
                self._send_block(file, slot, flight)
                if len(self._unflushed) + len(self._flying) >= FLUSH_BLOCKS:
                    self._flush(file, lanes, notes, flight)
            self._flush(file, lanes, notes, flight)

    def _open_packed(self, file: Outgoing, opened: ExitStack) -> Link:
        return opened.enter_context(self._to.packed(file))

    def _complain(self, file: Outgoing, error: Exception) -> None:
        if not self._terms.stopping.is_set():
            said = "%s: blocks travel as they are, since packed ones do not get through: %s"
            LOG.warning(said, file.path, error)

    def _flight(self, file: Outgoing, lanes: Lanes, notes: Notes) -> Flight:
        def landed(parcel: Parcel) -> None:
            self._terms.outage.over()
            counts = (parcel.block.data_bytes, parcel.sent_bytes, parcel.saved_bytes)
            file.sent(parcel.slot, parcel.hash, *counts)
            notes.sent(parcel.slot, parcel.block.data_bytes)
            self._unflushed.append(parcel.slot)
            self._flying.remove(parcel.slot)

        return Flight(lanes, self._buffers, self._terms.pace, self._terms.go_on, landed)

    def _lose(self, *, flushed: bool) -> None:
        """A connection is gone; what is not *flushed* goes again, although the destination has not rebooted."""
        self._terms.choice.lost()
        if not flushed:
            self._boot = b""

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

    def _flush(self, file: Outgoing, lanes: Lanes, notes: Notes, flight: Flight) -> None:
        """What this connection wrote, this connection flushes: no promise about others is relied on."""
        flight.land()
        notes.write()
        lanes.flush(self._terms.go_on)
        notes.flushed()
        self._terms.outage.over()
        file.settle(len(self._unflushed))
        self._unflushed.clear()

    def _send_manifest(self, file: Outgoing, link: Link) -> None:
        packed = memoryview(
            manifest.pack(self._to.address.username, file.size_bytes, file.allocated_bytes, file.body())
        )
        if link.size_bytes < len(packed):
            raise errors.ImageTransferError(
                path=file.path, reason="the destination has no room for its manifest"
            )
        for offset in range(0, len(packed), extents.BLOCK_BYTES):
            link.write(packed[offset : offset + extents.BLOCK_BYTES], offset)
        link.flush(self._terms.go_on)
        self._terms.outage.over()
