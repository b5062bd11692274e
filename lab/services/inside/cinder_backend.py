"""Storage that is not there, and is told of as a real one's: which hosts each volume is open to lies in a file.

What Cinder tells of a connection is what its driver for Ceph would say; a volume with metadata ``protocol`` gets
that of another kind. A host that is named in the file ``refused`` gets none.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cinder import interface
from cinder.volume import configuration, driver
from oslo_config import cfg

OPTIONS = [cfg.StrOpt("lab_directory", help="Where the files are.")]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


@interface.volumedriver
class LabDriver(driver.VolumeDriver):
    """One file a volume: a JSON list of hosts."""

    VERSION = "1"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)

    def do_setup(self, context: Any) -> None:
        """Do nothing."""

    def check_for_setup_error(self) -> None:
        """Find none."""

    def create_volume(self, volume: Any) -> None:
        """Open it to nobody."""
        self._write(volume, set())

    def delete_volume(self, volume: Any) -> None:
        """Forget it."""
        self._file(volume).unlink(missing_ok=True)

    def ensure_export(self, context: Any, volume: Any) -> None:
        """Do nothing: it is open to hosts, each by its own connection."""

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """Do nothing."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Do nothing."""

    def initialize_connection(self, volume: Any, connector: Any, **_: Any) -> dict[str, Any]:
        """Open it to a host, and say how it is reached from there."""
        host = connector["host"]
        if host in self._file_of("refused").read_text().split():
            raise RuntimeError(f"host {host} is refused")
        self._write(volume, self._read(volume) | {host})
        protocol = volume.metadata.get("protocol", "rbd")
        kinds = {"iscsi": _iscsi, "local": _local}
        return {"driver_volume_type": protocol, "data": kinds.get(protocol, _rbd)(volume, host)}

    def terminate_connection(self, volume: Any, connector: Any, **_: Any) -> None:
        """Close it to a host, unless another server has it there."""
        here = [one for one in volume.volume_attachment if one.attached_host == connector["host"]]
        if len(here) > 1:
            return
        self._write(volume, self._read(volume) - {connector["host"]})

    def _update_volume_stats(self) -> None:
        facts = {"volume_backend_name": "lab", "vendor_name": "lab", "driver_version": self.VERSION}
        room = {"total_capacity_gb": 1000, "free_capacity_gb": 1000}
        self._stats = {**facts, **room, "storage_protocol": "ceph", "multiattach": True}

    def _read(self, volume: Any) -> set[str]:
        return set(json.loads(self._file(volume).read_text()))

    def _write(self, volume: Any, hosts: set[str]) -> None:
        self._file(volume).write_text(json.dumps(sorted(hosts)))

    def _file(self, volume: Any) -> Path:
        return self._file_of(volume.id)

    def _file_of(self, name: str) -> Path:
        return Path(self.configuration.lab_directory, name)


def _rbd(volume: Any, _host: str) -> dict[str, Any]:
    """Say what Cinder's driver for Ceph says."""
    auth = {"auth_enabled": False, "auth_username": None, "secret_type": "ceph", "secret_uuid": None}
    where = {"hosts": ["10.0.0.1"], "ports": ["6789"], "cluster_name": "ceph"}
    return {"name": f"volumes/{volume.name}", "volume_id": volume.id, "discard": True, **where, **auth}


def _iscsi(volume: Any, host: str) -> dict[str, Any]:
    """Say what its drivers for iSCSI say; each host has a LUN of its own."""
    lun = 1 if host == "kvm1" else 2
    return {"target_iqn": f"iqn.2010-10.org.openstack:{volume.name}", "target_lun": lun,
            "target_portal": "10.0.0.2:3260", "target_discovered": False, "volume_id": volume.id}  # fmt: skip


def _local(volume: Any, _host: str) -> dict[str, Any]:
    """Say what a driver says whose volume the host finds at a path; with a secret, which none of them has."""
    return {"device_path": f"/dev/{volume.name}", "keyring_of_host": "hush"}


def services_only(_settings: Any, **_: Any) -> Callable[..., Any]:
    """Return a filter of the API: whoever sends a token of a service is one, as keystonemiddleware would find out."""

    def filtered(app: Any) -> Callable[..., Any]:
        def call(environ: dict[str, Any], start_response: Any) -> Any:
            if environ.get("HTTP_X_SERVICE_TOKEN"):
                environ["cinder.context"].service_roles = ["service"]
            return app(environ, start_response)

        return call

    return filtered
