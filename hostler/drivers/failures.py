"""Failures on demand, for the fakes."""

from __future__ import annotations


class Failures:
    """Mixin of a fake: a test says which of its calls fail next."""

    def __init__(self) -> None:
        self._failures: dict[str, list[BaseException]] = {}

    def fail_next(self, call: str, error: BaseException, times: int = 1) -> None:
        """Let the next *times* calls of that name raise *error* before they do anything."""
        self._failures.setdefault(call, []).extend([error] * times)

    def forgive(self) -> None:
        """Let no call fail any more."""
        self._failures.clear()

    def _meet(self, call: str) -> None:
        if waiting := self._failures.get(call):
            raise waiting.pop(0)
