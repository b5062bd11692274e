"""Settings of a host and of its worker."""

from __future__ import annotations

import socket

from oslo_config import cfg

default_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "host",
        default=socket.gethostname(),
        sample_default="the machine's host name",
        help="Name of this host: of its board, of its record, and what operators type.",
    ),
    cfg.StrOpt(
        "my_ip",
        help="Address of this host at which the other hosts send images to it, unless migration_inbound_addr is set.",
    ),
    cfg.StrOpt(
        "migration_inbound_addr",
        help="Address or name at which this host takes images, where that is another network than my_ip's.",
    ),
    cfg.StrOpt(
        "instances_path",
        default="/var/lib/libvirt/instances",
        help="Where servers have directories of their own.",
    ),
    cfg.StrOpt(
        "state_path", default="/var/lib/hostler", help="What the worker keeps across a restart of the host."
    ),
    cfg.StrOpt(
        "run_path",
        default="/run/hostler",
        help="What the worker keeps while the host is up: keys, locks. Must be local.",
    ),
    cfg.IntOpt(
        "max_concurrent_migrations", default=4, min=1, help="How many migrations this host works on at once."
    ),
    cfg.IntOpt(
        "shutdown_timeout",
        default=60,
        min=0,
        help="Seconds a guest has to shut down before its plug is pulled.",
    ),
    cfg.IntOpt(
        "shutdown_retry_interval",
        default=10,
        min=1,
        help="Seconds after which the power button is pressed again.",
    ),
    cfg.IntOpt(
        "graceful_shutdown_timeout",
        default=60,
        min=0,
        help="Seconds a worker that was told to end waits for the current step.",
    ),
    cfg.IntOpt(
        "guest_start_timeout",
        default=60,
        min=1,
        help="Seconds until a guest must be running on its new host.",
    ),
    cfg.IntOpt(
        "resize_confirm_window",
        default=0,
        min=0,
        help="Seconds after which a migration to this host is confirmed by itself, if its guest is well; 0 for never.",
    ),
    cfg.FloatOpt(
        "cpu_allocation_ratio", default=4.0, min=0.1, help="Virtual CPUs that a CPU of the host may carry."
    ),
    cfg.FloatOpt(
        "ram_allocation_ratio", default=1.0, min=0.1, help="Guest memory for each byte of the host's memory."
    ),
    cfg.FloatOpt(
        "disk_allocation_ratio",
        default=1.0,
        min=0.1,
        help="Disk given to servers for each byte of the host's.",
    ),
    cfg.IntOpt(
        "reserved_host_memory_mb", default=512, min=0, help="Memory of the host that servers never get."
    ),
    cfg.FloatOpt(
        "dead_host_timeout",
        default=120.0,
        min=1,
        help="Seconds without a worker after which a host counts as dead: what has not passed its point of no return is"
        " then undone without it.",
    ),
    cfg.BoolOpt(
        "allow_resize_to_same_host",
        default=True,
        help="Whether a server that is resized may stay on its host.",
    ),
    cfg.IntOpt(
        "max_attempts", default=3, min=1, help="Claims of a job without any progress before it is parked."
    ),
]

libvirt_opts: list[cfg.Opt] = [
    cfg.StrOpt("uri", default="qemu:///system", help="libvirt's connection URI."),
    cfg.ListOpt(
        "network_map",
        default=[],
        help="What the networks and bridges of arriving servers are called on this host, where that differs:"
        " bridge:br0=bridge:br1, network:lab=network:default.",
    ),
]

files_opts: list[cfg.Opt] = [
    cfg.ListOpt(
        "block_devices",
        default=[],
        help="Block devices of this host that arriving servers may overwrite: paths as their definitions name them, or"
        " shell patterns of these. Logical volumes need not be named: they are made.",
    ),
]
