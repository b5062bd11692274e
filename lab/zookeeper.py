"""A private ZooKeeper from the distribution's jar: no fsync, little memory, a port of its own.

For functional tests::

    with zookeeper(tmp_path) as hosts:
        KazooClient(hosts=hosts).start()
"""

import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.process import Daemon, LabError, wait_until
from lab.sockets import free_port, listens

JAR = Path("/usr/share/java/zookeeper.jar")

CONFIGURATION = """\
tickTime=500
initLimit=20
syncLimit=10
minSessionTimeout=1000
maxSessionTimeout=60000
dataDir={data}
clientPort={port}
clientPortAddress={address}
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr,ruok,dump,mntr,cons
"""


class ZooKeeper:
    """One server; its port stays the same through `kill` and `start`, as do its data."""

    def __init__(
        self,
        directory: Path,
        address: str = "127.0.0.1",
        port: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.address = address
        self.port = port or _recorded_port(directory) or free_port(address)
        self._prefix = list(prefix)
        self._daemon = Daemon(directory / "pid.json")

    @property
    def hosts(self) -> str:
        """What kazoo's client takes: ``address:port``."""
        return f"{self.address}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's pid while it lives."""
        return self._daemon.pid

    def start(self, timeout_s: float = 60) -> None:
        """Start the server and return when it serves; nothing if it runs."""
        if self.pid is not None:
            return
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        settings = CONFIGURATION.format(data=data, port=self.port, address=self.address)
        (self.directory / "zoo.cfg").write_text(settings)
        self._daemon.start(self._command(), self.directory / "log")
        wait_until(self._serves, f"ZooKeeper on {self.hosts}", timeout_s)

    def stop(self) -> None:
        """End the server in good order."""
        self._daemon.end()

    def kill(self) -> None:
        """End the server as a crash would."""
        self._daemon.end(signal.SIGKILL)

    def _command(self) -> list[str]:
        java = "java -Xms32m -Xmx192m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"
        options = "-Dzookeeper.jmx.log4j.disable=true -Dzookeeper.forceSync=no"
        server = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        zoo_cfg = str(self.directory / "zoo.cfg")
        return [*self._prefix, *java.split(), *options.split(), "-cp", str(JAR), server, zoo_cfg]

    def _serves(self) -> bool:
        """Whether our own process answers: a failed bind is silent, and another's server would answer too."""
        pid = self.pid
        if pid is None:
            raise LabError(f"ZooKeeper ended at once: {(self.directory / 'log').read_text()[-2000:]}")
        if not listens(pid, self.port):
            return False
        try:
            with socket.create_connection((self.address, self.port), timeout=1) as connection:
                connection.sendall(b"srvr")
                return b"Mode: " in connection.makefile("rb").read()
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


@contextmanager
def zookeeper(directory: Path) -> Iterator[str]:
    """A server on loopback for as long as the block runs; yields what kazoo's client takes."""
    with ZooKeeper(directory) as server:
        yield server.hosts


def _recorded_port(directory: Path) -> int | None:
    settings = directory / "zoo.cfg"
    if not settings.exists():
        return None
    lines = dict(line.split("=", 1) for line in settings.read_text().splitlines())
    return int(lines["clientPort"])
