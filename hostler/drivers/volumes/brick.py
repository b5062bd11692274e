"""Volumes that the host connects by os-brick, as Nova's hosts do: by iSCSI, NVMe-oF, NFS, ...

Needs the extra ``hostler[openstack]``. Its commands are run in this process through its own privsep context, as
argument lists; no shell, and no daemon beside a worker that is root anyway.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from oslo_concurrency import processutils
from oslo_config import cfg

from hostler.drivers.volumes.connector import unspoken
from hostler.drivers.volumes.network import called, in_use
from hostler.errors import MigrationError, VolumeUnreachable
from hostler.objects import Volume

#: Kinds of connection, and the program that the host must have for each; empty: none.
KINDS = {
    "iscsi": "iscsiadm",
    "iser": "iscsiadm",
    "nvmeof": "nvme",
    "nfs": "mount.nfs",
    "rbd": "rbd",
    "local": "",
}
#: What installs them.
PACKAGES = {"iscsiadm": "open-iscsi", "nvme": "nvme-cli", "mount.nfs": "nfs-common", "rbd": "ceph-common"}
#: Those that may go by several paths, which multipathd makes one of.
SCSI = ("iscsi", "iser")
#: Those whose device is gone when the host has let go of it. os-brick passes over targets that it does not find.
GOES = (*SCSI, "rbd")
NOT_INSTALLED = "os-brick is not installed: pip install 'hostler[openstack]'"
#: Where programs lie that are an administrator's alone; they need not be on a worker's PATH.
_SYSTEM = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class BrickConnector:
    """The :class:`~hostler.drivers.volumes.connector.Connector` of os-brick.

    *host*: as Cinder knows it; *address*: its own. *multipath*: all paths to a volume are used; *enforced*: or none.
    *locks*: the directory of os-brick's locks, which all that use it on this host must share. *mounts*: below it file
    systems are mounted. *execute*: what runs its commands, if not it.
    """

    def __init__(
        self,
        host: str,
        address: str,
        locks: str,
        mounts: str,
        *,
        multipath: bool = False,
        enforced: bool = False,
        execute: Callable[..., tuple[str, str]] | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        self._host = host
        self._address = address
        self._locks = locks
        self._mounts = mounts
        self._multipath = multipath
        self._enforced = enforced
        self._execute = execute
        self._proc = proc

    def problem(self, kind: str) -> str:
        """Return what is missing here: os-brick, the kind's program, or multipathd where it must run."""
        if kind not in KINDS:
            return f"it is connected by {kind}: not supported yet"
        if importlib.util.find_spec("os_brick") is None:
            return NOT_INSTALLED
        program = KINDS[kind]
        if program and self._execute is None and shutil.which(program, path=_SYSTEM) is None:
            return f"{program} is not installed, which connects it by {kind}: apt install {PACKAGES[program]}"
        if self._enforced and kind in SCSI and not self._has_multipathd():
            missing = f"multipathd does not run on {self._host}, and volume_enforce_multipath wants it"
            return f"{missing}: systemctl start multipathd"
        return ""

    def properties(self) -> Mapping[str, Any]:
        """Return what os-brick says of this host, as Nova has it from there."""
        ask = self._brick().get_connector_properties
        try:
            found: dict[str, Any] = ask(
                "", self._address, self._multipath, self._enforced, host=self._host, execute=self._execute
            )
        except Exception as error:
            raise MigrationError(f"os-brick on {self._host} fails: {_reason(error, {})}") from error
        return found

    def connect(self, volume: Volume, connection: Mapping[str, Any]) -> str:
        """Log in, mount, or whatever it takes; return the device or file."""
        try:
            told = self._connector(connection["driver_volume_type"]).connect_volume(dict(connection))
            path = os.fsdecode(told["path"])
            Path(path).stat()
        except Exception as error:  # noqa: BLE001 - os-brick raises what its commands and libraries do
            reason = _reason(error, connection)
            raise VolumeUnreachable(volume=called(volume), host=self._host, reason=reason) from None
        return path

    def disconnect(self, volume: Volume, connection: Mapping[str, Any], path: str) -> None:
        """Flush it and log out; os-brick removes a device only when it could be flushed."""
        if pids := self._users(path):
            raise in_use(volume, self._host, pids)
        connector = self._connector(connection["driver_volume_type"])
        try:
            connector.disconnect_volume(dict(connection), {"path": path, "type": "block"}, force=False)
        except Exception as error:  # noqa: BLE001 - os-brick raises what its commands and libraries do
            reason = _reason(error, connection)
            raise self._stays(volume, reason) from None
        if connection["driver_volume_type"] in GOES and _is_there(path):
            raise self._stays(volume, f"{path} is there still, and os-brick does not say why")

    def _stays(self, volume: Volume, reason: str) -> MigrationError:
        message = (
            f"volume {called(volume)} stays connected on {self._host}, which cannot let go of it: {reason}"
        )
        return MigrationError(message, volume=volume.name, host=self._host)

    def _has_multipathd(self) -> bool:
        self._brick()
        from os_brick.initiator.linuxscsi import LinuxSCSI

        return bool(LinuxSCSI.is_multipath_running(root_helper="", execute=self._execute))

    def _users(self, path: str) -> list[int]:
        """Return the processes that have it open: a device that goes takes along what they have not written yet."""
        try:
            wanted = _identity(os.stat(path))  # noqa: PTH116 - beside the descriptors, which have no Path
        except OSError:
            return []
        found = set()
        for descriptor in self._proc.glob("[0-9]*/fd/*"):
            with suppress(OSError):  # it ended while we were looking
                if _identity(descriptor.stat()) == wanted:
                    found.add(int(descriptor.parts[-3]))
        return sorted(found)

    def _connector(self, kind: str) -> Any:
        given = {"nfs_mount_point_base": self._mounts, "do_local_attach": True}
        return self._brick().InitiatorConnector.factory(
            kind, "", use_multipath=self._multipath, execute=self._execute, **given
        )

    def _brick(self) -> Any:
        """Return os-brick, set up for this process."""
        if importlib.util.find_spec("os_brick") is None:
            raise MigrationError(f"on {self._host} {NOT_INSTALLED}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for eventlet, which nothing here uses
            from oslo_service import backend

            backend.init_backend(backend.BackendType.THREADING)
            from os_brick import privileged
            from os_brick.initiator import connector
        cfg.CONF.set_override("lock_path", self._locks, "os_brick")
        for context in (privileged.default, privileged.brick_privsep_hide_output):
            context.set_client_mode(False)
        return connector


def _is_there(path: str) -> bool:
    return bool(path) and Path(path).exists()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return (status.st_rdev, -1) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)


def _reason(error: Exception, connection: Mapping[str, Any]) -> str:
    """Say in a line what went wrong: of a command its last words; never a password."""
    text = str(error)
    if isinstance(error, processutils.ProcessExecutionError):
        words = (error.stderr or error.description or "").strip().splitlines()
        text = f"{str(error.cmd).split(' ', 1)[0]}: {words[-1] if words else f'exit code {error.exit_code}'}"
    return unspoken(" ".join(text.split()) or type(error).__name__, connection)
