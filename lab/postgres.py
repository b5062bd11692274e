"""A private PostgreSQL from the distribution's programs: no fsync, a port of its own, gone afterwards.

For functional tests::

    with postgres(tmp_path) as url:
        create_engine(url)
"""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.process import Daemon, LabError, run, wait_until
from lab.sockets import free_port, listens

# Not told to the disk, but to the kernel before a commit returns: what was committed outlives the server's death.
SETTINGS = (
    "fsync=off",
    "synchronous_commit=on",
    "full_page_writes=off",
    "unix_socket_directories=",
    "shared_buffers=32MB",
    "max_connections=200",
)


class PostgreSQL:
    """One server; its port stays the same through `kill` and `start`, as do its data."""

    def __init__(
        self,
        directory: Path,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        self.directory = directory
        self.address = address
        self.port = port or _recorded_port(directory) or free_port(address)
        self._prefix = list(prefix)
        self._daemon = Daemon(directory / "pid.json")

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's address of *database*; only `postgres` is there from the start."""
        return f"postgresql+psycopg2://postgres@{self.address}:{self.port}/{database}"

    def create_database(self, database: str) -> str:
        """Make an empty *database*; returns its address."""
        server = ["-h", self.address, "-p", str(self.port), "-U", "postgres"]
        run([program("psql"), *server, "-qXc", f'CREATE DATABASE "{database}"', "postgres"])
        return self.url(database)

    @property
    def pid(self) -> int | None:
        """The server's first process while it lives."""
        return self._daemon.pid

    def start(self, timeout_s: float = 60) -> None:
        """Start the server and return when it serves; nothing if it runs."""
        if self._daemon.pid is not None:
            return
        if not self._data.exists():
            self._initialize()
        (self.directory / "port").write_text(str(self.port))
        # The postmaster refuses to start while a killed one's file names a pid that lives, be it another's.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._daemon.start(self._command(), self.directory / "log")
        wait_until(self._serves, f"PostgreSQL on {self.address}:{self.port}", timeout_s, pause_s=0.1)

    def stop(self) -> None:
        """End the server in good order, its clients' connections with it."""
        self._daemon.end(signal.SIGINT)

    def kill(self) -> None:
        """End the server as a crash would (SIGQUIT: at once, but with its children)."""
        self._daemon.end(signal.SIGQUIT)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _initialize(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(self._data, "postgres", "postgres")
        run(
            [
                *self._prefix,
                *_as_postgres(),
                program("initdb"),
                "-A",
                "trust",
                "-U",
                "postgres",
                "-N",
                "-D",
                self._data,
            ]
        )
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\n")

    def _command(self) -> list[str | Path]:
        settings = [f"-c{setting}" for setting in SETTINGS]
        where: list[str | Path] = ["-D", self._data, "-h", self.address, "-p", str(self.port)]
        return [*self._prefix, *_as_postgres(), program("postgres"), *where, *settings]

    def _serves(self) -> bool:
        pid = self._daemon.pid
        if pid is None:
            raise LabError(f"PostgreSQL ended at once: {(self.directory / 'log').read_text()[-2000:]}")
        if not listens(pid, self.port):
            return False
        try:
            run([program("pg_isready"), "-q", "-h", self.address, "-p", str(self.port)])
        except LabError:
            return False
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    """A server on loopback for as long as the block runs; yields the address of an empty database."""
    with PostgreSQL(directory) as server:
        yield server.url()


def program(name: str) -> Path:
    """PostgreSQL's own programs are not on PATH in Debian; the newest version's is taken."""
    found = list(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        raise LabError(f"no {name} below /usr/lib/postgresql: is PostgreSQL's server installed?")
    return max(found, key=lambda path: int(path.parts[4]))


def _as_postgres() -> list[str]:
    """The server refuses to be root; the capability lets it pass root's folders, as pytest's are."""
    if os.geteuid() != 0:
        return []
    user = ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    return ["setpriv", *user, "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search", "--"]


def _recorded_port(directory: Path) -> int | None:
    recorded = directory / "port"
    return int(recorded.read_text()) if recorded.exists() else None
