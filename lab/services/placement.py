"""A private Placement, its tables in PostgreSQL or MariaDB.

On SQLite it answers every other request of a crowd with 500.
"""

from collections.abc import Mapping
from pathlib import Path

import requests

from lab.services.cloud import CloudService
from lab.services.environment import environment

SETTINGS = """
[api]
auth_strategy = noauth2
[placement_database]
connection = {database}
[oslo_policy]
enforce_scope = false
enforce_new_defaults = false
"""


class Placement(CloudService):
    """Its API."""

    name = "placement"
    kind = "placement"
    version = "placement 1.39"  # the first at which a consumer has a type

    def add_provider(self, name: str, **totals: int) -> str:
        """Make a host's resource provider with these totals (``VCPU=8``); returns its uuid."""
        made = self.request("POST", "/resource_providers", {"name": name})
        inventories = {kind: {"total": total} for kind, total in totals.items()}
        body = {"resource_provider_generation": made["generation"], "inventories": inventories}
        self.request("PUT", f"/resource_providers/{made['uuid']}/inventories", body)
        return str(made["uuid"])

    def _configure(self) -> None:
        settings = SETTINGS.format(database=self.database)
        conf = self.directory / "placement.conf"
        conf.write_text(settings)
        # Before the workers start: two that made the tables at once would end each other.
        self._run(environment("placement") / "bin/placement-manage", "--config-file", conf, "db", "sync")

    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        gunicorn = environment("placement") / "bin/gunicorn"
        where = ["--no-control-socket", "-b", f"{self.address}:{self.port}", "-w", "2", "--threads", "4"]
        variables = {"OS_PLACEMENT_CONFIG_DIR": self.directory}
        return [gunicorn, *where, "placement.wsgi.api:application"], variables

    def _greeting(self) -> Mapping[str, object]:
        answer = requests.get(self.url, timeout=5).json()
        return answer if "versions" in answer else {}
