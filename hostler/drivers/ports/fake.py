"""Ports of a host that is not there, for tests."""

from __future__ import annotations

from collections.abc import Mapping

from oslo_config import cfg

from hostler.drivers.failures import Failures
from hostler.drivers.ports.libvirt import LibvirtPorts
from hostler.objects import Port
from hostler.records.fence import FencedRecords


class FakePorts(Failures, LibvirtPorts):
    """libvirt's ports over networks in memory; the bindings are in the records."""

    def __init__(self, host: str = "fake", network_map: Mapping[str, str] | None = None) -> None:
        Failures.__init__(self)
        self.networks: dict[str, bool] = {"default": True}  #: whether each is active
        self.bridges: set[str] = {"br0"}
        LibvirtPorts.__init__(
            self,
            lambda: self.networks,
            lambda name: name in self.bridges,
            network_map or {},
            host,
            lambda: self.bridges,
        )

    def reserve(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Do nothing, unless it is to fail."""
        self._meet("reserve")
        super().reserve(records, instance, port, host)

    def bind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Bind it, unless it is to fail."""
        self._meet("bind")
        super().bind(records, instance, port, host)

    def unbind(self, records: FencedRecords, instance: str, port: Port, host: str) -> None:
        """Undo that, unless it is to fail."""
        self._meet("unbind")
        super().unbind(records, instance, port, host)

    def settle(self, records: FencedRecords, instance: str, host: str) -> None:
        """Drop the other bindings, unless it is to fail."""
        self._meet("settle")
        super().settle(records, instance, host)


def from_conf(conf: cfg.ConfigOpts) -> FakePorts:
    """Make the driver of the settings."""
    return FakePorts(conf.host)
