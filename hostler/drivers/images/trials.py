"""Which way blocks travel: as they are, or packed. What pays is tried, not computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hostler.drivers.images.pace import Pace

#: What does not get smaller than this share of itself travels as it is.
WORTH = 0.9
#: How much faster a copy has to be for the work of packing.
GAIN = 1.1
#: A way is measured over so many pieces and bytes, and for a hundredth of the time since the last trial.
PIECES, LEAST_BYTES, SHARE = 16, 4 << 20, 0.01
#: Between two looks whether data that did not get smaller do so now.
LOOK_S = 1.0
#: Between two trials: at first, and at most.
FIRST_S, LONGEST_S = 10.0, 320.0


@dataclass(frozen=True)
class Turn:
    """What is to be done with one piece of a block."""

    phase: int
    pack: bool = False
    look: bool = False  #: it travels as it is; whether it would get smaller is to be told


class Choice(Protocol):
    """Chooses the way of each piece. Shared by the connections of a copy."""

    def next(self) -> Turn:
        """Return what is to be done with the next piece."""

    def landed(self, turn: Turn, size_bytes: int) -> None:
        """Note that the destination has a piece of so many bytes of disk."""

    def looked(self, size_bytes: int, packed_bytes: int, took_s: float) -> None:
        """Note what a piece was packed to, and in which time."""

    def lost(self) -> None:
        """Note that a connection is gone, and what was on its way with it."""

    def failed(self, *, for_good: bool) -> bool:
        """Note that packed pieces do not get through; return whether that is news."""


class Never:
    """Sends all as it is."""

    def __init__(self, _pace: Pace | None = None, _connections: int = 1) -> None:
        """It does not matter how fast the copy may be."""

    def next(self) -> Turn:
        """Return that it travels as it is."""
        return Turn(0)

    def landed(self, turn: Turn, size_bytes: int) -> None:
        """Count nothing."""

    def looked(self, size_bytes: int, packed_bytes: int, took_s: float) -> None:
        """Remember nothing."""

    def lost(self) -> None:
        """Count nothing anew."""

    def failed(self, *, for_good: bool) -> bool:
        """Return that it was known."""
        return False


class Trials:
    """Tries each way on a few pieces, goes on with the one that settles more of the disk a second, and tries again.

    Data that do not get smaller are never sent packed, and where plain pieces leave faster than *connections* threads
    could pack them nothing is tried. The second trial comes after :data:`FIRST_S`, the next ones at growing distances.
    """

    def __init__(self, pace: Pace, connections: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._connections = connections
        self._clock = clock
        self._lock = threading.Lock()
        self._pack = False  #: the way that pieces take now
        self._before: float | None = (
            None  #: during a trial: bytes a second of the way that was taken before it
        )
        self._trying = False
        self._tried: float | None = None
        self._due = 0.0
        self._distance_s = FIRST_S
        self._failed = self._off = False
        self._shrinks = False
        self._look_due = 0.0
        self._pack_rate = 0.0  #: bytes a second that one thread packs
        self._phase = self._mine = self._older = 0
        self._changes = pace.changes
        #: When the first piece of this phase had landed; what landed after it is counted.
        self._since: float | None = None
        self._bytes = self._pieces = 0

    # -- the connections' calls ---------------------------------------------------------------------------

    def next(self) -> Turn:
        """Return what is to be done with the next piece."""
        with self._lock:
            self._see_pace()
            self._mine += 1
            look = not self._pack and not self._off and self._clock() >= self._look_due
            if look:
                self._look_due = self._clock() + LOOK_S
            return Turn(self._phase, self._pack, look)

    def landed(self, turn: Turn, size_bytes: int) -> None:
        """Count a piece, unless some that took the other way were under way beside it."""
        with self._lock:
            self._see_pace()
            if turn.phase != self._phase:
                self._older = max(self._older - 1, 0)
                return
            self._mine -= 1
            if self._older or not self._on_trial():
                return
            if self._since is None:
                self._since = self._clock()
                return
            self._bytes += size_bytes
            self._pieces += 1
            self._judge(self._clock() - self._since)

    def looked(self, size_bytes: int, packed_bytes: int, took_s: float) -> None:
        """Remember whether data get smaller, and how fast a thread packs at best."""
        with self._lock:
            self._shrinks = packed_bytes < WORTH * size_bytes
            self._pack_rate = max(self._pack_rate, size_bytes / took_s if took_s > 0 else 0.0)

    def lost(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self._begin(self._pack)
            self._older = 0

    def failed(self, *, for_good: bool) -> bool:
        """Go on without; try again after a while, unless that is of no use."""
        with self._lock:
            news, self._failed = not self._failed, True
            self._off = self._off or for_good
            if self._pack or self._trying:
                self._settle(pack=False, again_s=2 * self._distance_s)
            return news

    # -- trials -------------------------------------------------------------------------------------------

    def _on_trial(self) -> bool:
        """Whether pieces are counted; begins a trial that is due."""
        due = self._clock() >= self._due and (self._pack or self._shrinks) and not self._off
        self._trying = self._trying or due
        return self._trying

    def _judge(self, lasted_s: float) -> None:
        """Go one step on if enough was counted."""
        least_s = 0.0 if self._tried is None else SHARE * (self._clock() - self._tried)
        enough = self._pieces >= PIECES and self._bytes >= LEAST_BYTES and lasted_s >= least_s
        if lasted_s <= 0:
            return
        if self._before is not None:
            self._compare(self._before, lasted_s, enough=enough)
        elif enough:
            self._try(self._bytes / lasted_s)

    def _try(self, rate: float) -> None:
        """Try the other way beside *rate*, which this one has come to."""
        if not self._pack and rate > self._pack_rate * self._connections:
            self._settle(pack=False, again_s=2 * self._distance_s)
            return
        self._before = rate
        self._begin(not self._pack)

    def _compare(self, before: float, lasted_s: float, *, enough: bool) -> None:
        """Choose, also before *enough* was counted, if the way that is tried cannot come up to the other any more."""
        rate = max(self._bytes * max(PIECES / self._pieces, 1), LEAST_BYTES) / lasted_s
        wins = rate > GAIN * before if self._pack else GAIN * rate >= before
        if enough or not wins:
            again_s = FIRST_S if wins else 2 * self._distance_s
            self._settle(pack=self._pack is wins, again_s=again_s)

    def _settle(self, *, pack: bool, again_s: float) -> None:
        """Take that way until the next trial, which comes sooner where the last one has changed something."""
        self._distance_s = min(again_s, LONGEST_S) if self._tried is not None else FIRST_S
        self._tried = self._clock()
        self._due = self._tried + self._distance_s
        self._before, self._trying = None, False
        if pack == self._pack:
            self._measure()
        else:
            self._begin(pack)

    def _see_pace(self) -> None:
        """Try again soon where another rate is allowed: that is another link."""
        if self._changes != self._pace.changes:
            self._changes = self._pace.changes
            self._due, self._distance_s, self._before, self._trying = 0.0, FIRST_S, None, False
            self._measure()

    def _begin(self, pack: bool) -> None:
        self._pack = pack
        self._phase += 1
        self._older, self._mine = self._older + self._mine, 0
        self._measure()

    def _measure(self) -> None:
        self._since = None
        self._bytes = self._pieces = 0
