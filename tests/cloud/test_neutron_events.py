"""Neutron's own notifier speaks to hostler web, with the settings of the manual."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from hostler.records import plugging
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.web import tokens
from hostler.web.app import application
from lab.services.environment import environment
from tests.records_made import make_host, make_instance, make_leg

SAYS = Path(__file__).with_name("neutron_says.py")
SETTINGS = """
[DEFAULT]
transport_url = fake://
notify_nova_on_port_status_changes = true
[nova]
auth_type = admin_token
endpoint = {endpoint}
token = {token}
"""
PORT = str(uuid.uuid4())


@dataclass
class Web:
    """hostler web, over records in which a port of *server* is waited for."""

    url: str
    directory: Path
    server: str
    records: FencedRecords

    def hears(self, token: str, *events: dict[str, Any]) -> str:
        """Let Neutron say *events*; return what it logs of that."""
        settings = self.directory / "neutron.conf"
        settings.write_text(SETTINGS.format(endpoint=f"{self.url}/v2.1", token=token))
        command = [environment("neutron") / "bin/python", "-P", SAYS, settings, json.dumps(events)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        return done.stdout + done.stderr

    @property
    def said(self) -> list[str | None]:
        return [one.status for one in plugging.awaited(self.records)]

    def event(self, **about: str) -> dict[str, str]:
        facts = {"name": plugging.EVENT, "server_uuid": self.server, "tag": PORT, "status": "completed"}
        return facts | about


@pytest.fixture
def token(tmp_path: Path) -> str:
    return tokens.issue(tmp_path / "web-tokens", "neutron", tokens.SERVICE, None)


@pytest.fixture
def web(database: Database, tmp_path: Path, token: str) -> Iterator[Web]:
    with database.transaction() as session:
        for host in ("kvm1", "kvm2"):
            make_host(session, host)
        server = make_instance(session, "kvm1")
    records = make_leg(database, server)
    plugging.expect(records, {PORT: "52:54:00:00:00:01"})
    client: Any = SimpleNamespace(database=database)
    app = application(client, tokens.Tokens(tmp_path / "web-tokens"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Web(f"http://127.0.0.1:{listening.getsockname()[1]}", tmp_path, server, records)
        finally:
            serving.should_exit = True
            thread.join()


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_its_word_is_kept_and_the_answer_is_one_that_it_understands(
    web: Web, token: str, status: str
) -> None:
    logged = web.hears(token, web.event(status=status), web.event(name="network-changed"))
    assert "Error" not in logged and "Failed" not in logged, logged
    assert web.said == [status]


def test_it_is_told_which_servers_nobody_knows(web: Web, token: str) -> None:
    logged = web.hears(token, web.event(server_uuid=str(uuid.uuid4())), web.event())
    assert logged.count("returned with failed status") == 1, logged
    assert web.said == ["completed"]


def test_with_another_token_it_is_not_heard(web: Web, token: str) -> None:
    logged = web.hears(f"{token}x", web.event())
    assert "Failed to notify nova" in logged, logged
    assert web.said == [None]
