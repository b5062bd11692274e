"""A database in a file, and the program run in this process."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler import flows
from hostler.cli.app import HostlerApp
from hostler.errors import FlowNotFound
from hostler.flows.shape import Step
from hostler.records.database import Database
from hostler.records.models import Base
from tests.unit.cli.cli_world import Hostler, Ran, StandInClient, World
from tests.unit.cli.sample_flows import cold_migration


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two hosts, their workers alive, no server."""
    monkeypatch.setenv("TZ", "UTC")
    url = f"sqlite:///{tmp_path}/hostler.sqlite"
    config = tmp_path / "hostler.conf"
    config.write_text(f"[database]\nconnection = {url}\n[zookeeper]\nhosts = 127.0.0.1:1\n")
    database = Database(url)
    Base.metadata.create_all(database.engine)
    workers: dict[str, dict[str, object]] = {
        name: {"version": "0.1.0", "since": 1772366400.25} for name in ("kvm1", "kvm2")
    }
    made = World(database, StandInClient(database, workers), config)
    for name in workers:
        made.add_host(name)
    yield made
    database.close()


@pytest.fixture
def hostler(world: World, capsys: pytest.CaptureFixture[str]) -> Iterator[Hostler]:
    """Run a command in this process with the stand-in as its asking side."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*argv: str) -> Ran:
        capsys.readouterr()
        app = HostlerApp(lambda _conf: world.client)  # type: ignore[arg-type,return-value]
        try:
            code = app.run(["--config-file", str(world.config), *argv])
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def sample_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cold_migration be the sample's, whatever the project's is at present."""

    def shape_of(name: str) -> list[Step]:
        if name != "cold_migration":
            raise FlowNotFound(name=name, known="cold_migration")
        return [dataclasses.replace(step) for step in cold_migration()]

    monkeypatch.setattr(flows, "FLOWS", {"cold_migration": None}, raising=False)
    monkeypatch.setattr(flows, "shape_of", shape_of, raising=False)
