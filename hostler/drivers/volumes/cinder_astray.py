"""Attachments of Cinder's that their servers do not use, or that lead elsewhere than where a server is."""

from __future__ import annotations

from collections.abc import Iterator

from hostler.drivers.volumes import Astray
from hostler.drivers.volumes.attachments import VolumeService
from hostler.drivers.volumes.cinder_rules import CLIENT, is_cinders
from hostler.objects import Disk, Domain, Volume


def strays(service: VolumeService, domain: Domain, here: str) -> Iterator[Astray]:
    """Return them; *here*: what Cinder calls the host of *domain*."""
    disks: list[Volume | Disk] = [*domain.volumes, *domain.disks]
    used = {disk.serial: disk.target for disk in disks if is_cinders(disk)}
    for one in service.attachments_of(domain.uuid):
        if one.empty:
            text = f"attachment {one.id} of volume {one.volume} is empty"
            yield Astray(one.id, text, f"{CLIENT} delete {one.id}")
        elif one.volume not in used:
            text = f"volume {one.volume} is attached, and no disk of the definition has that serial"
            yield Astray(one.id, text, f"{CLIENT} show {one.id}")
    for serial, target in used.items():
        found = service.volume(serial or "")
        for one in found.of(domain.uuid) if found else ():
            if one.host not in (here, None):
                text = f"volume {one.volume} ({target}) is attached on {one.host}"
                yield Astray(one.id, text, f"{CLIENT} show {one.id}")
