"""The host's own /etc: a copy of the machine's, with libvirt's and hostler's settings.

A whole folder and no single file is mounted in the host: a mount on one file is silently lost as soon as
somebody outside renames a new file over it.
"""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIBVIRTD_CONF = """\
host_uuid = "{uuid}"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""

# No cgroups, no ownership changes: the hosts see one cgroup tree, and one set of owners on files they share.
QEMU_CONF = """\
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""

NETWORK = """\
<network>
  <name>lab</name>
  <uuid>{uuid}</uuid>
  <forward mode='bridge'/>
  <bridge name='br0'/>
</network>
"""

HOSTLER_CONF = """\
[DEFAULT]
host = {host}
my_ip = {address}
instances_path = /var/lib/libvirt/instances
state_path = /var/lib/hostler

[database]
connection = {database}

[zookeeper]
hosts = {zookeeper}
"""


@dataclass(frozen=True)
class Settings:
    """What differs between the /etc of two hosts, or of two labs."""

    host: str
    address: str
    #: Every name that the host must resolve, itself included, with its address.
    names: Mapping[str, str]
    #: SQLAlchemy's address of the records.
    database: str
    #: ZooKeeper, as kazoo takes it.
    zookeeper: str
    #: What hostler.conf says beside that; a section may stand twice.
    hostler: str = ""
    #: Whether the worker's wall clock can be moved: `lab.host.Host.move_clock`.
    movable_clock: bool = False


def write_etc(etc: Path, settings: Settings) -> None:
    """Make the host's /etc at *etc*; what stood there is gone."""
    if etc.exists():
        shutil.rmtree(etc)
    shutil.copytree("/etc", etc, symlinks=True)
    for section in ("libvirt", "hostler"):
        shutil.rmtree(etc / section, ignore_errors=True)
    for path, text in contents(settings).items():
        target = etc / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    autostart = etc / "libvirt/qemu/networks/autostart"
    autostart.mkdir()
    (autostart / "lab.xml").symlink_to("/etc/libvirt/qemu/networks/lab.xml")
    _add_user(etc)


def contents(settings: Settings) -> dict[str, str]:
    """The files of the host's /etc that are not the machine's, by their path below it."""
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{settings.host} {settings.address}")
    names = "".join(f"{address} {name}\n" for name, address in settings.names.items())
    return {
        "hostname": f"{settings.host}\n",
        "hosts": f"127.0.0.1 localhost\n{names}",
        "libvirt/libvirtd.conf": LIBVIRTD_CONF.format(uuid=identity),
        "libvirt/qemu.conf": QEMU_CONF,
        "libvirt/qemu/networks/lab.xml": NETWORK.format(uuid=uuid.uuid5(identity, "lab")),
        "hostler/hostler.conf": HOSTLER_CONF.format(
            host=settings.host,
            address=settings.address,
            database=settings.database,
            zookeeper=settings.zookeeper,
        )
        + settings.hostler,
    }


def _add_user(etc: Path) -> None:
    """Libvirt's QEMU driver does not start unless this user resolves, whoever runs the guests."""
    lines = {"passwd": "64055:64055::/var/lib/libvirt:/usr/sbin/nologin", "group": "64055:"}
    for database, rest in lines.items():
        known = (etc / database).read_text()
        if not any(line.startswith("libvirt-qemu:") for line in known.splitlines()):
            (etc / database).write_text(f"{known.rstrip()}\nlibvirt-qemu:x:{rest}\n")
