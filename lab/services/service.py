"""What all services have in common: a folder, processes that are found again, a start that waits for an answer."""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import requests

from lab.process import Daemon, LabError, end_marked, run, wait_until
from lab.sockets import free_port, listens

LOOPBACK = "127.0.0.1"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
#: In the environment of each process of a service: the service's folder.
MARK = "HOSTLER_LAB_SERVICE"


class Service(ABC):
    """One service in a folder of its own; its address and port stay through `kill` and `start`, as do its data."""

    name: ClassVar[str]

    def __init__(self, directory: Path, address: str = "") -> None:
        self.directory = directory
        self.address = address or self._recorded("address") or LOOPBACK
        self.port = int(self._recorded("port") or free_port(self.address))

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}:{self.port}"

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The first process of the service while it lives."""

    @abstractmethod
    def start(self, timeout_s: float = 120) -> None:
        """Start it and return when it answers; nothing if it runs."""

    @abstractmethod
    def kill(self) -> None:
        """End it, and what it keeps its data in."""

    def remove(self) -> None:
        """End it and remove what it has written; also what a start that was killed has left."""
        self.kill()
        end_marked(self._mark)
        if self.directory.exists():
            shutil.rmtree(self.directory)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "log"

    def clouds(self) -> Mapping[str, object]:
        """Return what an entry of ``clouds.yaml`` says of it."""
        return {}

    def _settle(self) -> None:
        """Make the folder, and keep where the service answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "address").write_text(self.address)
        (self.directory / "port").write_text(str(self.port))

    def _alone(self, **variables: object) -> list[str]:
        """Keep a program from what the caller's environment says, and let `remove` find it."""
        given = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": self.directory, **variables}
        return ["env", "-i", self._mark, *(f"{name}={value}" for name, value in given.items())]

    @property
    def _mark(self) -> str:
        return f"{MARK}={self.directory}"

    def _ended(self, what: str, log: Path) -> LabError:
        return LabError(f"{what} ended at once: {log.read_text()[-2000:]}")

    def _recorded(self, fact: str) -> str:
        recorded = self.directory / fact
        return recorded.read_text() if recorded.exists() else ""

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


class Server(Service):
    """A service whose first process is started here."""

    #: A program that the machine must have, and the word that makes ``tools/install`` get it.
    needs: ClassVar[tuple[str, str] | None] = None

    def __init__(self, directory: Path, address: str = "") -> None:
        super().__init__(directory, address)
        self._daemon = Daemon(directory / "pid.json")

    @property
    def pid(self) -> int | None:
        """The first process of the service while it lives."""
        return self._daemon.pid

    def start(self, timeout_s: float = 120) -> None:
        """Start it and return when it answers; nothing if it runs."""
        if self.pid is not None:
            return
        if self.needs is not None and shutil.which(self.needs[0], path=PATH) is None:
            raise LabError(f"{self.needs[0]} is not there: tools/install {self.needs[1]}")
        self._settle()
        self._prepare()
        command, variables = self._command()
        self._daemon.start([*self._alone(**variables), *command], self.log)
        wait_until(self._serves, f"{self.name} at {self.url}", timeout_s, pause_s=0.1)

    def kill(self) -> None:
        """End it, and what it keeps its data in."""
        self._daemon.end()
        self._release()

    @abstractmethod
    def _prepare(self) -> None:
        """Start what it needs, and write its settings."""

    @abstractmethod
    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        """Return what starts it, and its environment variables."""

    @abstractmethod
    def _greeting(self) -> Mapping[str, object]:
        """Return what it says first; nothing, or an error of the network or of a command, if it does not serve yet."""

    def _release(self) -> None:
        """End what it needs."""

    def _run(self, *command: str | Path, timeout_s: float = 120) -> str:
        """Run a program of the service's; `LabError` with its words if it fails."""
        return run([*self._alone(), *command], timeout_s)

    def _serves(self) -> bool:
        """Tell whether it is ours that listens, and whether it answers."""
        pid = self.pid
        if pid is None:
            raise self._ended(self.name, self.log)
        if not listens(pid, self.port):
            return False
        try:
            return bool(self._greeting())
        except (requests.RequestException, json.JSONDecodeError, OSError, LabError):
            return False
