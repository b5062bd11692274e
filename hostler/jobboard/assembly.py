"""A host's drivers, chosen by name in the settings."""

from __future__ import annotations

from oslo_config import cfg

from hostler import drivers
from hostler.drivers.files.local import LocalFiles
from hostler.drivers.hypervisor import Hypervisor
from hostler.errors import HostlerError
from hostler.tasks.base import Drivers


def make_drivers(conf: cfg.ConfigOpts) -> Drivers:
    """Return the drivers that *conf* names; an unknown name is :class:`~hostler.errors.BadConfiguration`."""
    made = {kind: drivers.load(kind, conf.drivers[kind])(conf) for kind in drivers.KINDS}
    hypervisor: Hypervisor = made["hypervisor"]
    receiver, sender, verifier = made["images"]
    return Drivers(
        hypervisor=hypervisor,
        files=LocalFiles(conf.instances_path, host=conf.host, in_use=lambda path: uses(hypervisor, path)),
        receiver=receiver,
        sender=sender,
        verifier=verifier,
        volumes=made["volumes"],
        ports=made["ports"],
        claims=made["claims"],
        notifications=made["notifications"],
    )


def uses(hypervisor: Hypervisor, path: str) -> bool:
    """Tell whether a domain of this host may use *path*; one that cannot be asked is taken to."""
    try:
        domains = [hypervisor.describe(summary.uuid) for summary in hypervisor.list_domains()]
    except HostlerError:
        return True
    named = {
        name
        for domain in domains
        for name in (*domain.boot_files, *(p for disk in domain.disks for p in (disk.path, *disk.backing)))
    }
    return path in named
