"""What one connection writes into the ledger of the file that it carries."""

from __future__ import annotations

from collections.abc import Callable

from hostler.drivers.images import ledger
from hostler.drivers.images.link import Link
from hostler.drivers.images.outgoing import Outgoing

#: A process that dies leaves this share of a file's blocks unnoted, for each connection, or one block.
_UNNOTED_SHARE = 400


class Notes:
    """Frames about the blocks that a connection has sent. *link* leads to the ledger, None where there is none.

    Nothing waits until the ledger has a frame, but a flush: *go_on*, called meanwhile, raises if the copy has to stop.
    """

    def __init__(
        self, file: Outgoing, link: Link | None, go_on: Callable[[], None], stamp: bytes, boot: bytes
    ) -> None:
        self._file = file
        self._link = link
        self._go_on = go_on
        self._stamps = (stamp, boot)
        self._most = max(1, min(len(file.blocks) // _UNNOTED_SHARE, ledger.MOST_BLOCKS))
        self._sent: list[tuple[int, int, bytes]] = []
        self._frames: list[int] = []

    def sent(self, slot: int, data_bytes: int) -> None:
        """The destination's kernel has that block."""
        self._sent.append(self._file.entry(slot, data_bytes))
        if len(self._sent) >= self._most:
            self.write()

    def write(self) -> None:
        """Write down what is not yet."""
        if self._sent:
            number = self._write(ledger.blocks_frame(self._sent, *self._stamps))
            self._frames += [] if number is None else [number]
            self._sent.clear()

    def flushed(self) -> None:
        """All that was written down before is on stable storage; wait until the ledger has that."""
        while self._frames:
            named, self._frames = self._frames[: ledger.MOST_FRAMES], self._frames[ledger.MOST_FRAMES :]
            self._write(ledger.stable_frame(named, *self._stamps))
        if self._link is not None:
            self._link.land(self._go_on)

    def _write(self, frame: bytes) -> int | None:
        """Return the frame's number; None if there is no room for it: then it is not known after a break."""
        if self._link is None:
            return None
        number = self._file.next_frame()
        if (number + 1) * ledger.FRAME_BYTES > self._link.size_bytes:
            return None
        self._link.send(memoryview(frame), number * ledger.FRAME_BYTES)
        self._link.turn(0)
        return number
