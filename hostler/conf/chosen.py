"""Settings that name what is used of what is installed: drivers, filters, weighers."""

from __future__ import annotations

from oslo_config import cfg

driver_opts: list[cfg.Opt] = [
    cfg.StrOpt("hypervisor", default="libvirt", help="Driver of the host's domains."),
    cfg.StrOpt("images", default="nbd", help="Driver that carries image files."),
    cfg.StrOpt(
        "volumes",
        default="network",
        help="Driver of the disks that QEMU reaches over the network: network, cinder.",
    ),
    cfg.StrOpt("ports", default="libvirt", help="Driver of the network interfaces: libvirt, neutron, ovn."),
    cfg.StrOpt("claims", default="records", help="Driver of the claims on a host's resources."),
    cfg.ListOpt(
        "notifications",
        default=["log"],
        help="Drivers that tell of migrations, each of them everything: log, noop, messagingv2, webhook.",
    ),
]

scheduler_opts: list[cfg.Opt] = [
    cfg.ListOpt(
        "filters",
        default=["alive", "enabled", "same_host", "groups", "capacity", "machine", "cpu", "networks"],
        help="What a host must pass to be chosen, in this order: entry points of hostler.filters.",
    ),
    cfg.DictOpt(
        "weighers",
        default={"memory": "1.0", "vcpus": "1.0", "disk": "1.0", "arriving": "1.0", "groups": "1.0"},
        sample_default="memory:1.0,vcpus:1.0,disk:1.0,arriving:1.0,groups:1.0",
        help="What makes a host better than another, and how much it counts: entry points of hostler.weighers."
        " A number below 0 turns one round.",
    ),
    cfg.IntOpt(
        "max_attempts",
        default=3,
        min=1,
        help="How many hosts a migration tries for which no host was named.",
    ),
]
