"""What a worker tells of its host: how much of it there is, and what it can run and connect."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

from hostler import __version__
from hostler.objects import HostCapabilities
from hostler.records import hosts
from hostler.records.database import Database
from hostler.tasks.base import Drivers


class HostReport:
    """The record of this host; written again only when something has changed."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, drivers: Drivers) -> None:
        self._conf = conf
        self._database = database
        self._drivers = drivers
        self._told: dict[str, Any] | None = None

    def renew(self) -> bool:
        """Look at the host and tell; return whether there was anything new.

        :class:`~hostler.errors.ServerUnreachable` if the hypervisor or the database is away.
        """
        facts = self._facts()
        if facts == self._told:
            return False
        with self._database.transaction() as session:
            hosts.report(session, self._conf.host, **facts)
        self._told = facts
        return True

    def _facts(self) -> dict[str, Any]:
        conf, hypervisor = self._conf, self._drivers.hypervisor
        return {
            "address": conf.migration_inbound_addr or conf.my_ip,
            "resources": hypervisor.resources(),
            "worker_version": __version__,
            "capabilities": HostCapabilities(
                hypervisor.guest_kinds(),
                self._drivers.ports.sources(),
                self._drivers.sender.certificate(),
                maps_networks=True,
            ),
            "cpu_allocation_ratio": conf.cpu_allocation_ratio,
            "ram_allocation_ratio": conf.ram_allocation_ratio,
            "disk_allocation_ratio": conf.disk_allocation_ratio,
            "reserved_host_memory_mb": conf.reserved_host_memory_mb,
        }
