"""A host's drivers, chosen by name in the settings."""

from __future__ import annotations

from oslo_config import cfg

from hostler import drivers
from hostler.drivers.files.local import LocalFiles
from hostler.drivers.hypervisor import Hypervisor
from hostler.drivers.notifications import news
from hostler.errors import HostlerError
from hostler.tasks.base import Drivers
from hostler.tasks.domain import pinned


def make_drivers(conf: cfg.ConfigOpts) -> Drivers:
    """Return the drivers that *conf* names; an unknown name is :class:`~hostler.errors.BadConfiguration`."""
    # The images come first: they say which cipher GnuTLS prefers before libvirt loads it.
    kinds = ("images", *(kind for kind in drivers.KINDS if kind not in ("images", "notifications")))
    made = {kind: drivers.load(kind, conf.drivers[kind])(conf) for kind in kinds}
    told = news.from_conf(conf)
    hypervisor: Hypervisor = made["hypervisor"]
    receiver, sender, verifier = made["images"]
    files = LocalFiles(
        conf.instances_path,
        host=conf.host,
        in_use=lambda path: is_used(files, hypervisor, conf.state_path, path),
        devices_path=f"{conf.state_path}/devices",
        kept_path=f"{conf.state_path}/kept",
        keep_s=conf.images.keep_copies,
        block_devices=conf.files.block_devices,
    )
    return Drivers(
        hypervisor=hypervisor,
        files=files,
        receiver=receiver,
        sender=sender,
        verifier=verifier,
        volumes=made["volumes"],
        ports=made["ports"],
        claims=made["claims"],
        notifications=told,
    )


def is_used(files: LocalFiles, hypervisor: Hypervisor, state_path: str, path: str) -> bool:
    """Tell whether a server of this host may use *path*, or one that was set aside here may come back to it.

    Where libvirt cannot be asked, or a set-aside server's definition cannot be read, one may.
    """
    try:
        if any(files.same(path, one) for one in pinned(state_path)):
            return True
        domains = [hypervisor.describe(summary.uuid) for summary in hypervisor.list_domains()]
    except (HostlerError, OSError, ValueError):
        return True
    return bool(files.users(path, domains))
