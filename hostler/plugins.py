"""What other distributions may bring: found by name through entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from stevedore import DriverManager

from hostler.errors import BadConfiguration


def load(namespace: str, name: str, *, where: str, kind: str) -> Any:
    """Return what the entry point *name* of *namespace* names.

    :class:`~hostler.errors.BadConfiguration` if there is none, or if it cannot be imported; it names those there
    are. *where*: the setting; *kind*: what it is called in sentences.
    """
    known = sorted({found.name for found in entry_points(group=namespace)})
    if name not in known:
        there_are = ", ".join(known) or "none"
        raise BadConfiguration(where=where, problem=f"no {kind} is called {name!r}; there are: {there_are}")

    def refuse(_manager: object, _entry_point: object, error: BaseException) -> None:
        raise BadConfiguration(
            where=where, problem=f"the {kind} {name!r} cannot be loaded: {error}"
        ) from error

    return DriverManager(namespace, name, on_load_failure_callback=refuse).driver
