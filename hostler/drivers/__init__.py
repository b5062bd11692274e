"""Against what a migration works: small protocols, each with a real driver and a fake beside it.

A driver is chosen by name in the section ``[drivers]`` and found through the entry points ``hostler.<kind>``,
so that another distribution can bring its own. Such an entry point is a factory that takes the settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from hostler import plugins

KINDS = ("hypervisor", "images", "volumes", "ports", "claims", "notifications")

#: Makes a driver of the settings.
Factory = Callable[[cfg.ConfigOpts], Any]


def load(kind: str, name: str) -> Factory:
    """Return the factory of the driver *name*.

    :class:`~hostler.errors.BadConfiguration` if there is none; it names those there are.
    """
    factory: Factory = plugins.load(f"hostler.{kind}", name, where=f"[drivers] {kind}", kind="driver")
    return factory
