"""What whoever looks on is woken by: watches on the boards, set again as they fire."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

#: Looks at a node and lets its callback be called once when that changes.
Watch = Callable[[Callable[[Any], None]], Any]


class News:
    """Tells that something happened at one of a few nodes; each has one watch at a time, however long that takes.

    *ask* carries out what talks to ZooKeeper: its answer, or :class:`~hostler.errors.ServerUnreachable`.
    """

    def __init__(self, watches: Iterable[Watch], ask: Callable[[Callable[[], Any]], Any]) -> None:
        self._ask = ask
        self._fired = list(watches)
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._changed.set()  # what happened before the first watch is not known: look

    def wait(self, timeout_s: float) -> bool:
        """Wait for news, but no longer than *timeout_s*; tell whether there is any.

        The watches are set before it returns: what happens while the caller looks is news again.
        """
        self._ask(self._set)
        if not self._changed.wait(timeout_s):
            return False
        self._changed.clear()
        self._ask(self._set)
        return True

    def _set(self) -> None:
        with self._lock:
            fired, self._fired = self._fired, []
        for number, watch in enumerate(fired):
            try:
                watch(self._callback(watch))
            except BaseException:
                with self._lock:
                    self._fired += fired[number:]
                raise

    def _callback(self, watch: Watch) -> Callable[[Any], None]:
        def fire(_event: Any) -> None:
            with self._lock:
                self._fired.append(watch)
            self._changed.set()

        return fire
