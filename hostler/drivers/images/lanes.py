"""A carrier's two connections to one export: blocks travel plain over one, and packed over the other."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import zstandard

from hostler import errors
from hostler.drivers.images.link import Broken, Link, NoAnswer, NoSuchExport
from hostler.drivers.images.trials import WORTH, Choice, Turn
from hostler.drivers.images.unpacker import HEAD, MAGIC

#: Higher ones cost more than they bring, :doc:`decisions/0022-frames-are-unpacked-in-the-receiver`.
LEVEL = 1


class PackedLost(Exception):
    """The packed connection is gone, or its frames are refused; what it has not flushed has to be sent again."""


@dataclass(frozen=True)
class Piece:
    """Some bytes of a block as they leave."""

    body: memoryview
    link: Link
    turn: Turn
    size_bytes: int  #: of the disk


class Lanes:
    """Belongs to one thread. *connect* makes the packed connection, which is not there before it is needed.

    *complain* is told why packed blocks do not get through, if that is news.
    """

    def __init__(
        self,
        plain: Link,
        choice: Choice,
        connect: Callable[[], Link],
        complain: Callable[[Exception], None],
    ) -> None:
        self._plain = plain
        self._choice = choice
        self._connect = connect
        self._complain = complain
        self._packed: Link | None = None
        self._written = False  #: over the packed one, and not flushed
        self._zstd = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)

    def piece(self, view: memoryview) -> Piece:
        """Return how the bytes of *view* are to leave."""
        turn = self._choice.next()
        frame = None
        if turn.look or (turn.pack and self._ready()):
            frame = self._frame(view)
        if frame is None or not turn.pack or self._packed is None:
            return Piece(view, self._plain, turn, len(view))
        return Piece(memoryview(frame), self._packed, turn, len(view))

    def send(self, piece: Piece, offset: int, done: Callable[[], None]) -> None:
        """Put a piece on its way to *offset*; *done* is called in :meth:`turn`."""

        def landed() -> None:
            self._choice.landed(piece.turn, piece.size_bytes)
            done()

        self._written = self._written or piece.link is self._packed
        with self._guarded(piece.link):
            piece.link.send(piece.body, offset, landed)

    def send_zeros(self, length: int, offset: int, done: Callable[[], None]) -> None:
        """Put on its way that a range is to read as zeros."""
        self._plain.send_zeros(length, offset, done)

    def turn(self, longest_s: float) -> None:
        """Let what is on its way leave, and answers come in; wait for one, at most *longest_s*."""
        if self._packed is None:
            self._plain.turn(longest_s)
            return
        links, end = (self._plain, self._packed), time.monotonic() + longest_s
        before = [link.answers for link in links]
        while self._packed is not None and [link.answers for link in links] == before:
            left_s = max(0.0, end - time.monotonic())
            self._let(links, left_s)
            if not left_s:
                break
        for link, answers in zip(links, before, strict=True):
            if link in (self._plain, self._packed):
                with self._guarded(link):
                    link.checked(silent=longest_s > 0 and link.answers == answers)

    def _let(self, links: tuple[Link, Link], longest_s: float) -> None:
        """Wait until one of the connections can go on, and let it."""
        waiting, by_fd = select.poll(), {}
        for link in links:
            with self._guarded(link):
                fd, events = link.awaits()
                waiting.register(fd, events)
                by_fd[fd] = link
        for fd, events in waiting.poll(longest_s * 1000):
            with self._guarded(by_fd[fd]):
                by_fd[fd].let(events)

    def flush(self, go_on: Callable[[], None]) -> None:
        """See everything that was written over either on stable storage; *go_on* as for :meth:`Link.land`."""
        if self._packed is not None and self._written:
            with self._guarded(self._packed):
                self._packed.flush(go_on)
            self._written = False
        self._plain.flush(go_on)

    # -- packing ------------------------------------------------------------------------------------------

    def _ready(self) -> bool:
        """Whether there is a packed connection; without one the copy goes on as it is."""
        if self._packed is None:
            try:
                self._packed = self._connect()
            except (Broken, errors.ImageTransferError) as error:
                self._give_up(error)
        return self._packed is not None

    def _frame(self, view: memoryview) -> bytes | None:
        """Return a frame that stands for *view*; None where that is not worth it."""
        began = time.thread_time()
        packed = self._zstd.compress(view)
        length = HEAD.size + len(packed)
        self._choice.looked(len(view), length, time.thread_time() - began)
        return HEAD.pack(MAGIC, len(view)) + packed if length < WORTH * len(view) else None

    @contextmanager
    def _guarded(self, link: Link) -> Iterator[None]:
        """Turn what the packed connection complains about into :class:`PackedLost`; one that was idle just goes."""
        try:
            yield
        except (Broken, errors.ImageTransferError) as error:
            if link is not self._packed:
                raise
            self._give_up(error)
            if self._written:
                raise PackedLost(str(error)) from error
            self._packed = None

    def _give_up(self, error: Exception) -> None:
        """A connection that broke may be made again later; where nobody takes packed blocks, that is of no use."""
        passing = isinstance(error, Broken) and not isinstance(error, (NoAnswer, NoSuchExport))
        if self._choice.failed(for_good=not passing):
            self._complain(error)
