"""What all services have in common: a folder, servers that are recorded, a start that waits for an answer."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import requests

from lab.process import Daemon, LabError, wait_until
from lab.sockets import free_port, listens

ADDRESS = "127.0.0.1"


class Service(ABC):
    """One service in a folder of its own; its port stays the same through `kill` and `start`, as do its data."""

    name: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = self._recorded_port() or free_port(ADDRESS)
        self._daemon = Daemon(directory / "pid.json")

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{ADDRESS}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The first process of the service while it lives."""
        return self._daemon.pid

    def start(self, timeout_s: float = 120) -> None:
        """Start it and return when it answers; nothing if it runs."""
        if self.pid is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "port").write_text(str(self.port))
        self._prepare()
        command, variables = self._command()
        environment = [f"{name}={value}" for name, value in variables.items()]
        self._daemon.start(["env", "-i", "PATH=/usr/bin:/bin", *environment, *command], self.log)
        wait_until(self._serves, f"{self.name} at {self.url}", timeout_s, pause_s=0.1)

    def kill(self) -> None:
        """End it, and what it keeps its data in."""
        self._daemon.end()
        self._release()

    def remove(self) -> None:
        """End it and remove what it has written."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "log"

    @abstractmethod
    def clouds(self) -> Mapping[str, object]:
        """Return what an entry of ``clouds.yaml`` says of it."""

    @abstractmethod
    def _prepare(self) -> None:
        """Start what it needs, and write its settings."""

    @abstractmethod
    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        """Return what starts it, and its environment variables."""

    @abstractmethod
    def _greeting(self) -> Mapping[str, object]:
        """Return what it says first, as :class:`requests.Response` gives it."""

    @abstractmethod
    def _release(self) -> None:
        """End what it needs."""

    def _serves(self) -> bool:
        """Tell whether it is ours that listens, and whether it answers."""
        pid = self.pid
        if pid is None:
            raise LabError(f"{self.name} ended at once: {self.log.read_text()[-2000:]}")
        if not listens(pid, self.port):
            return False
        try:
            return bool(self._greeting())
        except (requests.RequestException, json.JSONDecodeError):
            return False

    def _recorded_port(self) -> int | None:
        recorded = self.directory / "port"
        return int(recorded.read_text()) if recorded.exists() else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
