"""The operator, at a desk that no fault reaches: commands of hostler, typed on the machine and not in a host.

What every round asks for is asked through the commands' own client, in this process: a hundred interpreters would
take longer to start than the migrations that they ask for.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostler import conf
from hostler.errors import HostlerError
from hostler.jobboard.client import Client
from hostler.jobboard.doctor import Doctor
from lab import Host, Lab
from lab.places import CHECKOUT, HOST_ENVIRONMENT
from tests.support.operator import PATIENCE_S, Said

CONFIGURATION = """\
[DEFAULT]
host = office

[database]
connection = {database}

[zookeeper]
hosts = {zookeeper}
session_timeout = 5
posting_timeout = 15
"""
#: Between two attempts of a command that reached no server.
PAUSE_S = 0.5


class Office:
    """Where the operator types."""

    def __init__(self, lab: Lab) -> None:
        self._configuration = lab.directory / "office.conf"
        self._configuration.write_text(
            CONFIGURATION.format(database=lab.database, zookeeper=lab.zookeeper.hosts)
        )

    def migrate(self, server: str, dest: str) -> str | None:
        """Ask for a migration; what was said against it, or None."""
        return self._ask(lambda client: client.migrate(server, dest, requested_by="chaos"))

    def confirm(self, server: str) -> str | None:
        """Ask for a confirmation; what was said against it, or None."""
        return self._ask(lambda client: client.confirm(server, requested_by="chaos"))

    def cancel(self, server: str) -> str | None:
        """Cancel the latest migration of a server; what was said against it, or None."""
        return self._ask(lambda client: client.cancel(server, requested_by="chaos", reason="chaos"))

    def is_up(self, host: Host) -> bool:
        """Whether the host has a worker that takes work."""
        listed = self.told("host", "list")
        return any(row["Name"] == host.name and row["Worker"] == "up" for row in listed)

    def findings(self) -> list[str]:
        """What the doctor finds that somebody has to do something about."""
        found: list[str] = []

        def look(client: Client) -> None:
            report = Doctor(client.database, client.board, timeout_s=20, posting_timeout_s=15).examine()
            found.extend(str(one) for one in report.findings if one.needs_operator)

        refused = self._ask(look)
        return [*found, *([refused] if refused else [])]

    def _ask(self, call: Callable[[Client], object]) -> str | None:
        try:
            with Client(conf.load([str(self._configuration)])) as client:
                call(client)
        except HostlerError as error:
            return str(error)
        return None

    def type(self, *words: str) -> Said:
        """Type a command of hostler, once."""
        program = Path(CHECKOUT, ".venv/bin/hostler")
        done = subprocess.run(
            [program, "--config-file", self._configuration, *words],
            env=HOST_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def insist(self, *words: str, timeout_s: float = 90) -> Said:
        """Type a command until it does not fail for want of a server, which has the exit code 1."""
        deadline = time.monotonic() + timeout_s
        while (said := self.type(*words)).code == 1 and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
        return said

    def told(self, *words: str) -> Any:
        """What a list or show command says as JSON."""
        said = self.insist(*words, "-f", "json")
        return json.loads(said.out)
