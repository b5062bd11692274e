"""Blocks on their way over one connection: one is read and hashed while the one before is being sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hostler.drivers.images.extents import Block, Buffer
from hostler.drivers.images.lanes import Lanes
from hostler.drivers.images.link import LOOK_S
from hostler.drivers.images.pace import Pace

#: Blocks that a connection holds in memory, and so the most that are on their way over it.
BUFFERS = 2
#: The most of a block that is one request: the receiver writes it while the next one arrives.
PIECE_BYTES = 1 << 20


@dataclass(eq=False)
class Parcel:
    """A block that the destination is to have."""

    slot: int
    block: Block
    hash: bytes | None  #: None: all of it is zeros
    sent_bytes: int = 0
    saved_bytes: int = 0  #: by packing
    unanswered: int = 1  #: requests on their way, and one for as long as more are added

    def answered(self) -> None:
        """One of its requests was done."""
        self.unanswered -= 1


class Flight:
    """What is on its way over *lanes*, which belong to one thread.

    *landed* is called in that thread for each block that the destination has, whatever their order; *go_on*, at
    least each 0.2 s while something is waited for, raises if the copy has to stop. A connection that breaks takes
    all with it that has not landed.
    """

    def __init__(
        self,
        lanes: Lanes,
        buffers: list[Buffer],
        pace: Pace,
        go_on: Callable[[], None],
        landed: Callable[[Parcel], None],
    ) -> None:
        self._lanes = lanes
        self._free = list(buffers)
        self._pace = pace
        self._go_on = go_on
        self._landed = landed
        self._parcels: dict[Parcel, Buffer] = {}

    def buffer(self) -> Buffer:
        """Return room for a block, for :meth:`send`; wait for it if all of it is on its way."""
        self._turn(0)
        while not self._free:
            self._wait()
        return self._free[-1]

    def send(
        self, parcel: Parcel, begin: int, zeros: Iterable[tuple[int, int]], data: Iterable[tuple[int, int]]
    ) -> None:
        """Put a block, read into what :meth:`buffer` returned, on its way to the offset *begin*.

        *zeros* and *data* say which parts of it: offset in the block and length.
        """
        self._parcels[parcel] = self._free.pop()
        for offset, length in zeros:
            parcel.unanswered += 1
            self._lanes.send_zeros(length, begin + offset, parcel.answered)
        for offset, length in data:
            self._send_data(parcel, begin, offset, length)
        parcel.answered()

    def _send_data(self, parcel: Parcel, begin: int, offset: int, length: int) -> None:
        for first, count in self._pace.pieces(length, PIECE_BYTES):
            start = offset + first
            piece = self._lanes.piece(parcel.block.view[start : start + count])
            self._pace.take(len(piece.body), self._look)
            parcel.unanswered += 1
            parcel.sent_bytes += len(piece.body)
            parcel.saved_bytes += count - len(piece.body)
            self._lanes.send(piece, begin + start, parcel.answered)

    def land(self) -> None:
        """Wait until the destination has everything."""
        self._turn(0)
        while self._parcels:
            self._wait()

    def _wait(self) -> None:
        self._go_on()
        self._turn(LOOK_S)

    def _look(self) -> None:
        self._go_on()
        self._turn(0)

    def _turn(self, longest_s: float) -> None:
        """Let requests leave and answers come in; see what has landed."""
        if self._parcels and all(parcel.unanswered for parcel in self._parcels):
            self._lanes.turn(longest_s)
        for parcel in [parcel for parcel in self._parcels if not parcel.unanswered]:
            self._free.append(self._parcels.pop(parcel))
            self._landed(parcel)
