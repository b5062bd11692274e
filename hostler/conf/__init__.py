"""Settings: what they are, and how a command or a worker reads them.

oslo.config; the sample file is generated from :func:`list_opts` (``hostler`` is its namespace for
``oslo-config-generator``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from oslo_config import cfg, types
from oslo_log import log

from hostler import __version__
from hostler.conf import chosen, cloud, host, images, outside, servers
from hostler.errors import BadConfiguration

#: Read in this order, where it exists, unless ``--config-file`` names another.
CONFIG_FILES = ("/etc/hostler/hostler.conf",)

GROUPS: dict[str, list[cfg.Opt]] = {
    "DEFAULT": host.default_opts,
    "database": servers.database_opts,
    "zookeeper": servers.zookeeper_opts,
    "libvirt": host.libvirt_opts,
    "images": images.images_opts,
    "files": host.files_opts,
    "scheduler": chosen.scheduler_opts,
    "drivers": chosen.driver_opts,
    "notifications": outside.notifications_opts,
    "openstack": cloud.openstack_opts,
    "ovn": cloud.ovn_opts,
    "web": outside.web_opts,
    "metrics": outside.metrics_opts,
    "tracing": outside.tracing_opts,
}

#: OpenTelemetry would say of each batch that it was not taken.
_LOG_LEVELS = ("alembic=WARN", "oslo_service=WARN", "opentelemetry=CRITICAL")

_HOST_NAME = types.String(regex=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options by group, as ``oslo-config-generator`` wants them."""
    return list(GROUPS.items())


def register(conf: cfg.ConfigOpts) -> None:
    """Make every setting known to *conf*."""
    log.register_options(conf)
    log.set_defaults(default_log_levels=[*log.get_default_log_levels(), *_LOG_LEVELS])
    for group, options in GROUPS.items():
        conf.register_opts(options, group=None if group == "DEFAULT" else group)


def load(config_files: Sequence[str] | None = None, arguments: Sequence[str] = ()) -> cfg.ConfigOpts:
    """Read the settings; a file that is missing, damaged or half is :class:`~hostler.errors.BadConfiguration`."""
    conf = cfg.ConfigOpts()
    register(conf)
    files = list(config_files) if config_files else [name for name in CONFIG_FILES if Path(name).exists()]
    try:
        conf(list(arguments), project="hostler", version=__version__, default_config_files=files)
    except (cfg.Error, cfg.ConfigFileParseError) as error:
        raise BadConfiguration(where=", ".join(files) or "command line", problem=str(error)) from error
    return conf


def check(conf: cfg.ConfigOpts, *, worker: bool = False) -> None:
    """Refuse half a configuration, naming the first option that is missing and where it belongs."""
    where = ", ".join(conf.default_config_files) or CONFIG_FILES[0]
    hint = f"hostler config sample; set it in {where}"
    needed = [("database", "connection"), ("zookeeper", "hosts")]
    for group, option in needed:
        if not conf[group][option]:
            raise BadConfiguration(where=where, problem=f"[{group}] {option} is not set", hint=hint)
    if worker and not (conf.migration_inbound_addr or conf.my_ip):
        raise BadConfiguration(where=where, problem="[DEFAULT] my_ip is not set", hint=hint)
    if conf.images.port_first > conf.images.port_last:
        raise BadConfiguration(where=where, problem="[images] port_first is above port_last", hint=hint)
    try:
        _HOST_NAME(conf.host)
    except ValueError as error:
        raise BadConfiguration(where=where, problem=f"[DEFAULT] host: {error}", hint=hint) from error


def is_loopback(address: str) -> bool:
    """Tell whether an address or name is this machine's own: nobody else hears what is said to it."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
