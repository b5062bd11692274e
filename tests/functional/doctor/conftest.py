"""Two hosts whose workers do nothing but look at themselves when they are asked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hostler.cli.app import HostlerApp
from hostler.jobboard.client import Client
from hostler.jobboard.doctor import Doctor, Finding, Report, Surgery
from tests.support.world import FakeHost, World


class Ward:
    """A world, the doctor, and the workers' part of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ending = threading.Event()
        self._threads = [threading.Thread(target=self._serve, args=(one,)) for one in world.hosts.values()]
        self._wakes: list[threading.Event] = []
        for thread in self._threads:
            thread.start()

    def _serve(self, host: FakeHost) -> None:
        wake = threading.Event()
        self._wakes.append(wake)
        run_path = str(host.root / "run/hostler")
        board = self.world.board
        surgery = Surgery(board, self.world.database, host.drivers, host.name, host.state_path, run_path)
        while not self.ending.is_set():
            wake.clear()
            if self.world.board.client.exists(self.world.board.path("workers", host.name)):
                surgery.serve(lambda _: wake.set())
            wake.wait(0.1)

    def end(self) -> None:
        self.ending.set()
        for wake in self._wakes:
            wake.set()
        for thread in self._threads:
            thread.join(10)

    @property
    def doctor(self) -> Doctor:
        return Doctor(self.world.database, self.world.client.board, timeout_s=10)

    def examine(self, host: str | None = None) -> Report:
        return self.doctor.examine(host)

    def fix(self, host: str | None = None) -> Report:
        return self.doctor.fix(host)

    def the(self, kind: str) -> Finding:
        """The one finding of that kind."""
        (found,) = (one for one in self.examine().findings if one.kind == kind)
        return found

    def told(self) -> list[str]:
        """What it finds, as an operator reads it."""
        return [f"{one.host}: {one.text}; {one.command}" for one in self.examine().findings]

    def worker_dies(self, host: str) -> None:
        self.world.board.client.delete(self.world.board.path("workers", host))


@pytest.fixture
def service() -> None:
    """A service of a cloud that the hosts have when they look at themselves: none, unless a file has it."""


@pytest.fixture
def ward(world: World, service: object) -> Iterator[Ward]:
    made = Ward(world)
    yield made
    made.end()


Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def hostler(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Typed]:
    """Type a command in this process; its exit code and what it prints."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    config = tmp_path / "hostler.conf"
    config.write_text("")

    def typed(*argv: str) -> tuple[int, str]:
        capsys.readouterr()

        def client(_conf: Any) -> Client:
            return Client(world.conf)

        code = HostlerApp(client).run(["--config-file", str(config), *argv])
        said = capsys.readouterr()
        return code, said.out + said.err

    yield typed
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
