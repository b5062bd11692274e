"""A host's drivers, chosen by name in the settings."""

from __future__ import annotations

from oslo_config import cfg

from hostler import drivers
from hostler.records.database import Database
from hostler.tasks.base import Drivers


def make_drivers(conf: cfg.ConfigOpts, database: Database) -> Drivers:
    """Return the drivers that *conf* names; an unknown name is :class:`~hostler.errors.BadConfiguration`."""
    raise NotImplementedError
