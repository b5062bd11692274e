"""Settings: what they are, and how a command or a worker reads them.

oslo.config; the sample file is generated from :func:`list_opts` (``hostler`` is its namespace for
``oslo-config-generator``).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

from oslo_config import cfg, types
from oslo_log import log

from hostler import __version__
from hostler.errors import BadConfiguration

#: Read in this order, where it exists, unless ``--config-file`` names another.
CONFIG_FILES = ("/etc/hostler/hostler.conf",)

default_opts = [
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

database_opts = [
    cfg.StrOpt(
        "connection",
        secret=True,
        help="SQLAlchemy URL of the records: postgresql+psycopg2://..., mysql+pymysql://..., or sqlite:///FILE"
        " where every host sees that file on one machine.",
    ),
    cfg.IntOpt(
        "connect_timeout", default=5, min=1, help="Seconds until an unanswered connection is given up."
    ),
]

zookeeper_opts = [
    cfg.ListOpt("hosts", default=[], help="ZooKeeper servers, host:port each."),
    cfg.StrOpt("root", default="/hostler", help="Node under which everything of hostler lies."),
    cfg.BoolOpt(
        "tls", default=False, help="Whether these are ports for TLS: the servers prove who they are."
    ),
    cfg.StrOpt("ca_file", help="Certificates that are trusted there, in PEM, beside the system's."),
    cfg.StrOpt("tls_cert", help="File of this machine's own certificate (PEM), where the servers want one."),
    cfg.StrOpt("tls_key", help="File of that certificate's key."),
    cfg.StrOpt(
        "auth",
        choices=[
            ("digest", "whoever knows user and password may touch what hostler has in ZooKeeper"),
            ("sasl", "the same, and the servers know the user; wants the extra hostler[sasl]"),
        ],
        help="How hostler proves to ZooKeeper who it is. None: it does not, and anybody may touch what it has there.",
    ),
    cfg.StrOpt("user", help="Who it is; the same on every host."),
    cfg.StrOpt("password", secret=True, help="What proves it."),
    cfg.FloatOpt(
        "session_timeout", default=10.0, min=1, help="Seconds after which a silent worker loses its claims."
    ),
    cfg.FloatOpt(
        "connect_timeout", default=5.0, min=0.5, help="Seconds until an unanswered connection is given up."
    ),
    cfg.FloatOpt(
        "relist_interval",
        default=30.0,
        min=1,
        help="Seconds between two looks at the whole board: the net under the watches.",
    ),
    cfg.FloatOpt(
        "reconcile_interval",
        default=60.0,
        min=1,
        help="Seconds between two comparisons of board and records.",
    ),
    cfg.FloatOpt(
        "posting_timeout",
        default=30.0,
        min=1,
        help="Seconds after which a migration that was never posted is given up.",
    ),
]

libvirt_opts = [
    cfg.StrOpt("uri", default="qemu:///system", help="libvirt's connection URI."),
    cfg.ListOpt(
        "network_map",
        default=[],
        help="What the networks and bridges of arriving servers are called on this host, where that differs:"
        " bridge:br0=bridge:br1, network:lab=network:default.",
    ),
]

images_opts: list[cfg.Opt] = [
    cfg.IntOpt(
        "port_first", default=20900, min=1, max=65535, help="First TCP port at which images are taken."
    ),
    cfg.IntOpt(
        "port_last", default=20963, min=1, max=65535, help="Last one; each arriving migration takes a port."
    ),
    cfg.IntOpt(
        "connections", default=4, min=1, max=16, help="Connections over which a migration sends its images."
    ),
    cfg.IntOpt(
        "timeout", default=300, min=1, help="Seconds that a copy waits for its receiver to come back."
    ),
    cfg.IntOpt(
        "keep_copies",
        default=86400,
        min=0,
        help="Seconds for which what has arrived of a server stays on this host after its migration was undone: the"
        " next one sends only what differs. It is given up sooner where its room is wanted. 0: nothing stays.",
    ),
    cfg.BoolOpt(
        "encrypt",
        default=True,
        help="Whether images travel encrypted, and both ends prove who they are. Where both hosts say false they do"
        " not: whoever is on the wire can read and change them. The log says so of each copy.",
    ),
    cfg.StrOpt(
        "tls",
        default="psk",
        choices=[
            ("psk", "a key for each copy, made by itself: nothing to set up"),
            ("x509", "besides, both hosts show certificates of one CA, and their names are checked"),
        ],
        help="How both ends prove who they are; alike on all hosts.",
    ),
    cfg.StrOpt("x509_ca_file", default="/etc/pki/CA/cacert.pem", help="The CA's certificate, in PEM."),
    cfg.StrOpt(
        "x509_crl_file",
        default="/etc/pki/CA/cacrl.pem",
        help="What the CA has revoked, in PEM; used where it is there.",
    ),
    cfg.StrOpt(
        "x509_server_cert",
        default="/etc/pki/libvirt/servercert.pem",
        help="Certificate of this host as a destination; its ip_address is where it takes images.",
    ),
    cfg.StrOpt(
        "x509_server_key",
        default="/etc/pki/libvirt/private/serverkey.pem",
        help="Its key, which only its owner and group may read.",
    ),
    cfg.StrOpt(
        "x509_client_cert",
        default="/etc/pki/libvirt/clientcert.pem",
        help="Certificate of this host as a source; its dns_name is *host*, or its ip_address the host's.",
    ),
    cfg.StrOpt(
        "x509_client_key",
        default="/etc/pki/libvirt/private/clientkey.pem",
        help="Its key, which only its owner and group may read.",
    ),
    cfg.StrOpt(
        "compress",
        default="auto",
        choices=[
            ("auto", "with zstd, where a copy is faster for it: tried while it runs, and again now and then"),
            ("never", "as they are; this host neither packs nor unpacks"),
        ],
        help="How blocks of images travel. Unpacking needs nbdkit-plugin-python and python3-zstandard (Debian).",
    ),
    cfg.BoolOpt(
        "confine",
        default=True,
        help="Whether what takes the images runs as a user of its own, without a network, with its files and no others."
        " A worker that is root takes none where this is true and the machine allows no namespaces.",
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

notifications_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help="Where messagingv2 finds RabbitMQ: rabbit://user:password@host:5672/. What else oslo.messaging can be"
        " told of it goes into its own section, oslo_messaging_rabbit.",
    ),
    cfg.ListOpt(
        "topics",
        default=["notifications"],
        help="Topics of messagingv2: each message goes to the queue topic.priority of each of them.",
    ),
    cfg.StrOpt("webhook_url", help="Where webhook POSTs to: https://..., or http:// to this machine alone."),
    cfg.StrOpt(
        "webhook_secret_file",
        help="File with the secret by which webhook signs; nobody but its owner may read it.",
    ),
    cfg.StrOpt(
        "webhook_ca_file", help="Certificates that webhook trusts, in PEM, instead of the usual ones."
    ),
    cfg.FloatOpt(
        "webhook_timeout", default=5.0, min=0.1, max=25.0, help="Seconds that webhook waits for an answer."
    ),
    cfg.FloatOpt(
        "retry_interval_max",
        default=60.0,
        min=1,
        help="Longest pause, in seconds, before a listener that is away is tried again; the first lasts a second.",
    ),
    cfg.IntOpt(
        "keep_hours", default=168, min=1, help="Hours after which an event that no listener took is given up."
    ),
]

openstack_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "cloud",
        default="openstack",
        help="Which cloud of clouds.yaml has the services that drivers use (placement, neutron, cinder).",
    ),
    cfg.StrOpt(
        "clouds_file",
        help="That clouds.yaml, where it does not lie in one of openstacksdk's places: /etc/openstack, for example.",
    ),
    cfg.FloatOpt("timeout", default=20.0, min=0.1, help="Seconds that a service has for an answer."),
    cfg.IntOpt(
        "retries",
        default=3,
        min=0,
        help="How often a request is sent again to a service that did not answer, or with 5xx.",
    ),
    cfg.FloatOpt(
        "patience",
        default=60.0,
        min=0.1,
        help="Seconds that a request is tried again which others overtake, and that rivals for a host are waited for.",
    ),
    cfg.DictOpt(
        "resource_providers",
        default={},
        help="What hosts are called in Placement, where that is not their name here: kvm1:kvm1.example.org.",
    ),
    cfg.DictOpt(
        "network_hosts",
        default={},
        help="What hosts are called in Neutron (binding:host_id), where that is not their name here.",
    ),
    cfg.DictOpt(
        "volume_hosts",
        default={},
        help="What hosts are called in Cinder's attachments (host_name), where that is not their name here.",
    ),
    cfg.BoolOpt(
        "volume_use_multipath",
        default=False,
        help="Whether this host connects volumes of Cinder's by all paths, through multipathd; Nova's setting.",
    ),
    cfg.BoolOpt(
        "volume_enforce_multipath",
        default=False,
        help="Whether a host on which multipathd does not run is refused then; else one path is used. Nova's setting.",
    ),
    cfg.StrOpt(
        "nfs_mount_point_base",
        default="/var/lib/nova/mnt",
        help="Where this host mounts the file systems of Cinder's volumes; Nova's setting.",
    ),
    cfg.StrOpt(
        "brick_lock_path",
        default="/run/hostler/os-brick",
        help="Directory of os-brick's locks. Where Nova or Cinder connects volumes on this host, too, it is theirs:"
        " lock_path of [os_brick], or of [oslo_concurrency].",
    ),
]

web_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "bind",
        default="127.0.0.1",
        help="Address at which hostler web listens; beyond loopback only with TLS.",
    ),
    cfg.PortOpt("port", default=8780, help="Its port."),
    cfg.StrOpt(
        "tokens_file",
        default="/etc/hostler/web-tokens",
        help="Who may come; hostler token create adds to it.",
    ),
    cfg.StrOpt(
        "tls_cert", help="File of its certificate (PEM, with what the clients need up to their root)."
    ),
    cfg.StrOpt("tls_key", help="File of the certificate's key."),
]

ovn_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "northbound",
        help="Where OVN's northbound database is, with ports = ovn: ssl:ADDRESS:6641 or tcp:ADDRESS:6641, or several"
        " with commas between.",
    ),
    cfg.StrOpt("southbound", help="Where its southbound database is: ssl:ADDRESS:6642."),
    cfg.StrOpt("private_key", help="This host's key for ssl:, in PEM."),
    cfg.StrOpt("certificate", help="The certificate that belongs to it."),
    cfg.StrOpt("ca_certificate", help="The certificate of whoever signed those of the databases."),
    cfg.DictOpt(
        "hosts",
        default={},
        help="What chassis are called, by name or hostname, where that is not the host's own name: kvm1:chassis-1.",
    ),
    cfg.FloatOpt("timeout", default=20.0, min=0.1, help="Seconds that a database has for an answer."),
]

metrics_opts: list[cfg.Opt] = [
    cfg.IntOpt(
        "port",
        default=0,
        min=0,
        max=65535,
        help="Port at which the worker serves /metrics, /healthz and /readyz; 0 for none.",
    ),
    cfg.StrOpt(
        "listen",
        default="127.0.0.1",
        help="Address of that port. It is neither encrypted nor asks who comes; no server is named there.",
    ),
    cfg.FloatOpt(
        "keep",
        default=15.0,
        min=1,
        help="Seconds that what the records say is kept: the database is asked no more often, however many ask.",
    ),
    cfg.FloatOpt(
        "stalled_after",
        default=120.0,
        min=1,
        help="Seconds that the worker's main loop may be late before /healthz says that it hangs.",
    ),
]

tracing_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "endpoint",
        help="OTLP collector to which the worker sends a trace of each migration: https://HOST:4318, or http:// to this"
        " machine alone. None for no traces. /v1/traces is added to an address without a path.",
    ),
    cfg.StrOpt("ca_file", help="Certificates that it trusts there, in PEM, instead of the usual ones."),
    cfg.DictOpt(
        "headers",
        default={},
        secret=True,
        help="What it says of itself to the collector: Authorization:Bearer TOKEN.",
    ),
    cfg.FloatOpt(
        "timeout",
        default=5.0,
        min=0.1,
        help="Seconds until spans that the collector does not take are dropped.",
    ),
    cfg.IntOpt(
        "queue", default=2048, min=1, help="Spans that wait for the collector; those beyond are dropped."
    ),
]

GROUPS: dict[str, list[cfg.Opt]] = {
    "DEFAULT": default_opts,
    "database": database_opts,
    "zookeeper": zookeeper_opts,
    "libvirt": libvirt_opts,
    "images": images_opts,
    "files": files_opts,
    "scheduler": scheduler_opts,
    "drivers": driver_opts,
    "notifications": notifications_opts,
    "openstack": openstack_opts,
    "ovn": ovn_opts,
    "web": web_opts,
    "metrics": metrics_opts,
    "tracing": tracing_opts,
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
