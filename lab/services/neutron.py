"""A private Neutron: its API with ML2's Open vSwitch driver, and a PostgreSQL of its own.

No agent runs and no packet is sent: a row of the database says of each host that its agent is well, which is all that
Neutron looks at when it binds a port there. A host without a row cannot bind any.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from lab.services.cloud import CloudService
from lab.services.environment import environment

#: Ports can be bound to these.
HOSTS = ("kvm1", "kvm2")

SETTINGS = """
[DEFAULT]
auth_strategy = noauth
core_plugin = ml2
service_plugins =
transport_url = fake://
state_path = {directory}/state
api_paste_config = {paste}
agent_down_time = 2000000
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
rpc_workers = 0
[database]
connection = {database}
[oslo_concurrency]
lock_path = {directory}/lock
[oslo_policy]
enforce_scope = false
enforce_new_defaults = false
"""
ML2 = """
[ml2]
type_drivers = vxlan
tenant_network_types = vxlan
mechanism_drivers = openvswitch
extension_drivers = port_security
[ml2_type_vxlan]
vni_ranges = 1:1000
"""
#: Neutron reads its own options from the command line, so that gunicorn's are in a file.
GUNICORN = """
bind = "{address}:{port}"
workers = 1
threads = 8
wsgi_app = "neutron.wsgi.api:application"
control_socket_disable = True
"""


class Neutron(CloudService):
    """Its API."""

    name = "neutron"
    kind = "network"

    def add_network(self, name: str) -> str:
        """Make a network; returns its uuid."""
        made = self.request("POST", "/v2.0/networks", {"network": {"name": name}})
        return str(made["network"]["id"])

    def add_port(self, network: str, server: str, host: str, **facts: Any) -> dict[str, Any]:
        """Make a port of *server*, bound to *host*; returns it as Neutron tells it."""
        whose = {"network_id": network, "device_id": server, "device_owner": "compute:nova"}
        made = self.request("POST", "/v2.0/ports", {"port": {**whose, "binding:host_id": host, **facts}})
        port: dict[str, Any] = made["port"]
        return port

    def _configure(self) -> None:
        home = environment("neutron")
        conf, ml2 = self.directory / "neutron.conf", self.directory / "ml2_conf.ini"
        facts = {"directory": self.directory, "database": self.database}
        conf.write_text(SETTINGS.format(paste=home / "etc/neutron/api-paste.ini", **facts))
        ml2.write_text(ML2)
        (self.directory / "gunicorn.conf.py").write_text(
            GUNICORN.format(address=self.address, port=self.port)
        )
        schema = Path(__file__).with_name("neutron_schema.py")
        # -P: this folder has a module that is called like the package that it imports.
        self._run(home / "bin/python", "-P", schema, self.database, json.dumps(HOSTS), conf, ml2)

    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        variables = {
            "OS_NEUTRON_CONFIG_DIR": self.directory,
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf;ml2_conf.ini",
            "GUNICORN_CMD_ARGS": f"-c {self.directory}/gunicorn.conf.py",
        }
        return [environment("neutron") / "bin/gunicorn"], variables

    def _greeting(self) -> Mapping[str, object]:
        answer = requests.get(f"{self.url}/v2.0/agents", timeout=30).json()
        return answer if answer.get("agents") else {}
