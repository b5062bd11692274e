"""A worker that dies at a change of a service, for what must be carried on and undone then."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any


class Killed(BaseException):
    """The worker is gone, with its request before it, or behind."""


class Mortal:
    """The *service* of a worker that dies at its change number *left*; *done*: once that was made.

    *changes*: the names of what changes something. *see*: called behind each change.
    """

    def __init__(
        self,
        service: object,
        changes: Collection[str],
        left: int,
        *,
        done: bool,
        see: Callable[[], None] = lambda: None,
    ) -> None:
        self._service, self._changes, self._done, self._see = service, changes, done, see
        self.left = left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._service, name)
        return self._mortal(found) if name in self._changes else found

    def _mortal(self, change: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any) -> None:
            self.left -= 1
            if self.left == 0 and not self._done:
                raise Killed
            change(*args)
            self._see()
            if self.left == 0:
                raise Killed

        return call
