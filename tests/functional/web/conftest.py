"""A page over two fake hosts, really served, and a real browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from selenium import webdriver
from sqlalchemy import update

from hostler.records.models import Migration
from hostler.web import tokens
from hostler.web.app import application
from tests.support.world import World


@dataclass
class Served:
    """Where it is served, over what, and the tokens that are known."""

    url: str
    world: World
    reader: str
    operator: str
    service: str
    file: Path


def rename(world: World, number: str, name: str) -> None:
    """Call a migration's server something that no file can be called."""
    with world.database.transaction() as session:
        session.execute(update(Migration).where(Migration.uuid == number).values(instance_name=name))


@pytest.fixture
def served(world: World, tmp_path: Path) -> Iterator[Served]:
    """The page, with --operate."""
    file = tmp_path / "web-tokens"
    reader, operator, service = (tokens.issue(file, f"a-{role}", role, 1) for role in tokens.ROLES)
    app = application(world.client, tokens.Tokens(file), operate=True, ending=lambda: server.should_exit)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", world, reader, operator, service, file)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Debian's Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    flags = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")
    quiet = ("disable-background-networking", "disable-component-update", "disable-dev-shm-usage")
    profile = f"user-data-dir={tmp_path_factory.mktemp('chromium')}"
    for flag in (*flags, *quiet, profile, "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any, served: Served) -> Iterator[Any]:
    """Chromium for one test; it leaves the page before its server ends, and what it complained of is read."""
    chromium.get_log("browser")
    yield chromium
    chromium.get("about:blank")
