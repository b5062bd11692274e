"""What hostler makes of a definition before it gives it to a hypervisor: the same for whoever takes libvirt's XML."""

from __future__ import annotations

from collections.abc import Mapping

from hostler.drivers.hypervisor import domain_edit, domain_size, pins
from hostler.objects import Placement, Volume


class Definitions:
    """The part of :class:`~hostler.drivers.hypervisor.Hypervisor` that asks no host."""

    def mark(self, xml: str, migration: str | None) -> str:
        """Return *xml* with our mark set to *migration*, or without it for None."""
        return domain_edit.mark(xml, migration)

    def relocate(
        self, xml: str, ports: Mapping[str, str], volumes: Mapping[str, Volume] | None = None
    ) -> str:
        """Return *xml* with each interface plugged where *ports* says, and *volumes* opened."""
        return domain_edit.relocate(xml, ports, volumes)

    def resize(self, xml: str, vcpus: int, memory_mb: int) -> str:
        """Return *xml* with that size; the rules are in :mod:`.domain_size`."""
        return domain_size.resize(xml, vcpus, memory_mb)

    def pin(self, xml: str, placement: Placement) -> str:
        """Return *xml* with the CPUs and nodes of *placement*."""
        return pins.write(xml, placement)

    def held(self, xml: str) -> Placement | None:
        """Return what a guest so defined takes of its host for itself."""
        return pins.held(xml)
