"""Whether the worker lives, and whether it can work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hostler.metrics.readings import Readings


class Health:
    """What the worker's main loop says of itself, and what its servers answer.

    *connected* tells whether the worker has a connection to ZooKeeper; it must not wait.
    """

    def __init__(self, stalled_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stalled_after_s = stalled_after_s
        self._clock = clock
        self._due = clock()
        self.announced = threading.Event()  #: the other hosts see that this worker is alive
        self.connected: Callable[[], bool] = lambda: False

    def turned(self, pause_s: float = 0.0) -> None:
        """Say that the main loop has turned, and comes by again in *pause_s* or sooner."""
        self._due = self._clock() + pause_s

    def overdue_s(self) -> float:
        """Return how long the main loop is late."""
        return max(self._clock() - self._due, 0.0)

    def in_touch(self) -> bool:
        """Tell whether ZooKeeper answers and the other hosts see this worker."""
        return self.announced.is_set() and self.connected()

    def sick(self) -> str | None:
        """Return why the process should be ended and started again; None if it should not."""
        late = self.overdue_s()
        return f"the main loop is {late:.0f} s late" if late > self._stalled_after_s else None

    def unready(self, readings: Readings) -> str | None:
        """Return what keeps the worker from taking jobs; None if nothing does."""
        if sick := self.sick():
            return sick
        if not self.connected():
            return "ZooKeeper does not answer"
        if not self.announced.is_set():
            return "the worker is not announced"
        return None if readings.latest() is not None else "the database does not answer"
