"""How fast one migration's copy may be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

#: A piece takes no longer than this on the wire, so that a change of the rate is felt at once.
PIECE_S = 0.1
_LEAST_PIECE_BYTES = 64 << 10
#: How long a connection that may send nothing waits before it looks whether it has to stop.
_LOOK_S = 0.2


class Pace:
    """A rate that several connections share and that may change while they send.

    None is no limit, 0 a pause. A connection takes what it is about to send, and is let go when that is due: what
    was not used is not saved up.
    """

    def __init__(self, rate_bytes_per_s: int | None = None) -> None:
        self._rate = rate_bytes_per_s
        self._due = 0.0
        self._changed = threading.Condition()
        self.changes = 0  #: how often it was changed: what was measured before tells nothing of now

    @property
    def rate_bytes_per_s(self) -> int | None:
        """The rate, bytes per second; None: no limit; 0: a pause."""
        return self._rate

    def set(self, rate_bytes_per_s: int | None) -> None:
        """Change the rate; who waits is let go by the new one."""
        with self._changed:
            if rate_bytes_per_s != self._rate:
                self._rate = rate_bytes_per_s
                self._due = time.monotonic()
                self.changes += 1
                self._changed.notify_all()

    def take(self, count: int, go_on: Callable[[], None]) -> None:
        """Wait until *count* bytes may leave; *go_on*, called meanwhile, raises if they never will."""
        while True:
            go_on()
            with self._changed:
                wait_s = self._take(count)
                if not wait_s:
                    return
                self._changed.wait(min(wait_s, _LOOK_S))

    def _take(self, count: int) -> float:
        """Return 0 if it may leave now, else how long to wait, in seconds."""
        if self._rate is None:
            return 0
        if self._rate <= 0:
            return _LOOK_S
        now = time.monotonic()
        if self._due > now:
            return self._due - now
        # a connection that was let go a little late may catch up on that
        self._due = max(self._due, now - PIECE_S) + count / self._rate
        return 0

    def pieces(self, length: int, most_bytes: int) -> Iterator[tuple[int, int]]:
        """Yield offset and length of the pieces, of *most_bytes*, in which *length* bytes are to be taken."""
        begin = 0
        while begin < length:
            rate = self._rate
            most = most_bytes if rate is None else max(int(rate * PIECE_S), _LEAST_PIECE_BYTES)
            count = min(most, most_bytes, length - begin)
            yield begin, count
            begin += count
