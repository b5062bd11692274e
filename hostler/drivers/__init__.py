"""Against what a migration works: small protocols, each with a real driver and a fake beside it.

A driver is chosen by name in the section ``[drivers]`` and found through the entry points ``hostler.<kind>``,
so that another distribution can bring its own. Such an entry point is a factory that takes the settings.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from oslo_config import cfg
from stevedore import DriverManager

from hostler.errors import BadConfiguration

KINDS = ("hypervisor", "images", "volumes", "ports", "claims", "notifications")

#: Makes a driver of the settings.
Factory = Callable[[cfg.ConfigOpts], Any]


def load(kind: str, name: str) -> Factory:
    """Return the factory of the driver *name*.

    :class:`~hostler.errors.BadConfiguration` if there is none; it names those there are.
    """
    where, namespace = f"[drivers] {kind}", f"hostler.{kind}"
    known = sorted({found.name for found in entry_points(group=namespace)})
    if name not in known:
        there_are = ", ".join(known) or "none"
        raise BadConfiguration(where=where, problem=f"no driver is called {name!r}; there are: {there_are}")

    def refuse(_manager: object, _entry_point: object, error: BaseException) -> None:
        raise BadConfiguration(
            where=where, problem=f"the driver {name!r} cannot be loaded: {error}"
        ) from error

    factory: Factory = DriverManager(namespace, name, on_load_failure_callback=refuse).driver
    return factory
