"""A private Cinder: API, scheduler and volume service in one process, and a PostgreSQL of its own.

Its storage has no bytes: it writes down to which hosts each volume is open, and tells of connections as Ceph's. Given a
Ceph, it has its volumes there, by Cinder's own driver.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from lab.process import run, wait_until
from lab.services.ceph import Ceph
from lab.services.cloud import TOKEN, CloudService
from lab.services.environment import environment

INSIDE = Path(__file__).with_name("inside")

SETTINGS = """
[DEFAULT]
auth_strategy = noauth
transport_url = fake://
enabled_backends = {backend}
host = lab
state_path = {directory}/state
api_paste_config = {directory}/api-paste.ini
resource_query_filters_file = {home}/etc/cinder/resource_filters.json
osapi_volume_listen = {address}
osapi_volume_listen_port = {port}
osapi_volume_workers = 1
quota_volumes = -1
quota_gigabytes = -1
[database]
connection = {database}
[oslo_concurrency]
lock_path = {directory}/lock
[coordination]
backend_url = file://{directory}/coordination
[oslo_policy]
enforce_scope = false
enforce_new_defaults = false
"""
#: Storage that has no bytes.
NO_BYTES = """
[lab]
volume_driver = cinder_backend.LabDriver
volume_backend_name = lab
lab_directory = {directory}/volumes
"""
#: Cinder's own driver for Ceph.
IN_CEPH = """
[ceph]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volume_backend_name = ceph
rbd_ceph_conf = {conf}
rbd_pool = {pool}
"""
#: Where the distribution has what that driver speaks to Ceph with, for the interpreter of `environment`.
BINDINGS = Path("/usr/lib/python3/dist-packages")
#: Cinder asks Nova whether an attachment may go, unless a service asks it.
ROLES = """
[filter:roles]
paste.filter_factory = cinder_backend:services_only
"""


class Cinder(CloudService):
    """Its API, and what is behind."""

    name = "cinder"
    kind = "block_storage"
    base = "/v3"
    version = "volume 3.54"

    #: Of Ceph's images, where the volumes are there.
    pool = "volumes"

    def __init__(self, directory: Path, address: str = "", ceph: Ceph | None = None) -> None:
        super().__init__(directory, address)
        self._ceph = ceph

    @property
    def volumes(self) -> Path:
        """Where its storage without bytes lies: a file for each volume says which hosts it is open to."""
        return self.directory / "volumes"

    def add_volume(self, **facts: Any) -> str:
        """Make a volume of 1 GiB; *facts*: as its API takes them. Return its uuid."""
        made = self.request("POST", "/v3/volumes", {"volume": {"size": 1, **facts}})
        uuid = str(made["volume"]["id"])
        wait_until(lambda: self.volume(uuid)["status"] == "available", f"volume {uuid}", pause_s=0.1)
        return uuid

    def volume(self, uuid: str) -> dict[str, Any]:
        """Return a volume as the API tells it."""
        told: dict[str, Any] = self.request("GET", f"/v3/volumes/{uuid}")["volume"]
        return told

    def attach(self, volume: str, server: str, host: str, device: str = "/dev/vdb") -> str:
        """Attach a volume to a server on a host, as Nova does; return the attachment's uuid."""
        connector = {
            "host": host,
            "ip": self.address,
            "platform": "x86_64",
            "os_type": "linux",
            "mountpoint": device,
        }
        wanted = {"volume_uuid": volume, "instance_uuid": server}
        uuid = str(self.request("POST", "/v3/attachments", {"attachment": wanted})["attachment"]["id"])
        self.request("PUT", f"/v3/attachments/{uuid}", {"attachment": {"connector": connector}})
        self.request("POST", f"/v3/attachments/{uuid}/action", {"os-complete": {}})
        return uuid

    def detach(self, attachment: str) -> None:
        """Drop an attachment, as Nova does."""
        headers = {"X-Service-Token": TOKEN}
        self.request("DELETE", f"/v3/attachments/{attachment}", **headers)

    def open_to(self, volume: str) -> list[str]:
        """Return the hosts that its storage has opened a volume to."""
        hosts: list[str] = json.loads((self.volumes / volume).read_text())
        return hosts

    def refuse(self, *hosts: str) -> None:
        """Let its storage open no volume to these hosts."""
        (self.volumes / "refused").write_text(" ".join(hosts))

    def _configure(self) -> None:
        home, conf = environment("cinder"), self.directory / "cinder.conf"
        for folder in ("volumes", "state", "lock", "coordination"):
            (self.directory / folder).mkdir(exist_ok=True)
        self.refuse()
        facts = {"directory": self.directory, "database": self.database, "home": home}
        backend, storage = self._storage()
        where = {"address": self.address, "port": self.port, "backend": backend}
        conf.write_text(SETTINGS.format(**where, **facts) + storage)
        paste = (home / "etc/cinder/api-paste.ini").read_text()
        (self.directory / "api-paste.ini").write_text(
            paste.replace(" noauth apiv3", " noauth roles apiv3") + ROLES
        )
        manage: list[str | Path] = [home / "bin/cinder-manage", "--config-file", conf, "db", "sync"]
        run([*self._alone(PYTHONPATH=self._modules), *manage])

    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        server: list[str | Path] = [environment("cinder") / "bin/python", "-P", INSIDE / "cinder_server.py"]
        return [*server, "--config-file", self.directory / "cinder.conf"], {"PYTHONPATH": self._modules}

    @property
    def _modules(self) -> str:
        return f"{INSIDE}:{self.directory}/bindings"

    def _storage(self) -> tuple[str, str]:
        """Return what its storage is called, and the settings of it."""
        if self._ceph is None:
            return "lab", NO_BYTES.format(directory=self.directory)
        self._ceph.add_pool(self.pool)
        bindings = self.directory / "bindings"
        bindings.mkdir(exist_ok=True)
        for module in (*BINDINGS.glob("rados.cpython-*.so"), *BINDINGS.glob("rbd.cpython-*.so")):
            (bindings / module.name).unlink(missing_ok=True)
            (bindings / module.name).symlink_to(module)
        return "ceph", IN_CEPH.format(conf=self._ceph.conf, pool=self.pool)

    def _greeting(self) -> Mapping[str, object]:
        """Return its services once all are up: a volume is made by none before."""
        told = requests.get(f"{self.url}/v3/os-services", headers={"X-Auth-Token": TOKEN}, timeout=30).json()
        up = [one["binary"] for one in told.get("services", ()) if one["state"] == "up"]
        return told if {"cinder-scheduler", "cinder-volume"} <= set(up) else {}
