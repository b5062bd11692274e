"""What a browser hears while it watches, and that it keeps no server from ending."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from hostler.web import tokens
from lab.process import wait_until
from lab.sockets import free_port, listens
from tests.functional.web.conftest import Served, rename
from tests.support.world import World


def events(url: str, number: str, token: str) -> Iterator[dict[str, Any]]:
    """Give what is told of a migration, until the server ends the stream."""
    headers = {"authorization": f"Bearer {token}"}
    address = f"{url}/migrations/{number}/live"
    with requests.get(address, headers=headers, stream=True, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def test_the_history_comes_when_it_has_grown_and_not_again(served: Served) -> None:
    world = served.world
    number = world.client.migrate(world.add_server(), "kvm2", requested_by="tester")
    rename(world, number, "<script>")
    heard = events(served.url, number, served.reader)
    first = next(heard)
    assert "asked for by tester" in first["history"]
    assert "<script>" not in first["html"] + first["history"]
    assert "history" not in next(heard)  # the time that it takes has gone on, and nothing has happened
    world.run()
    last = next(event for event in heard if event["state"] == "success")
    assert "HandOver done" in last["history"]


def test_a_stream_does_not_keep_a_server_that_is_told_to_end(world: World, tmp_path: Path) -> None:
    number = world.client.migrate(world.add_server(), "kvm2", requested_by="tester")
    port, file, settings = free_port(), tmp_path / "web-tokens", tmp_path / "hostler.conf"
    reader = tokens.issue(file, "a-reader", tokens.READER, 1)
    settings.write_text(
        f"[database]\nconnection = {world.conf.database.connection}\n"
        f"[zookeeper]\nhosts = {','.join(world.conf.zookeeper.hosts)}\nroot = {world.conf.zookeeper.root}\n"
        f"[web]\nport = {port}\ntokens_file = {file}\n"
    )
    program = "import sys; from hostler.cli.app import main; sys.exit(main())"
    words = [sys.executable, "-c", program, "--config-file", str(settings), "web"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as web:
        try:
            wait_until(lambda: web.poll() is not None or listens(web.pid, port), "the page", 60)
            heard = events(f"http://127.0.0.1:{port}", number, reader)
            assert next(heard)["state"]
            second = subprocess.run(words, capture_output=True, text=True)
            web.send_signal(signal.SIGTERM)
            for _ in heard:  # it ends in good order: an answer that is cut off raises
                pass
            _, complaints = web.communicate()
        finally:
            web.kill()
    assert complaints == ""
    assert (second.returncode, second.stdout) == (3, "")
    assert f"port {port}: Address already in use" in second.stderr
    assert f"try: ss -tlnp sport = {port};" in second.stderr
    assert web.returncode in (0, -signal.SIGTERM)  # newer uvicorns end as if they had not caught it
