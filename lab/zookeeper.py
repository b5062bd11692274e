"""A private ZooKeeper from the distribution's jar: no fsync, little memory, a port of its own.

For functional tests::

    with zookeeper(tmp_path) as hosts:
        KazooClient(hosts=hosts).start()

`Ensemble` is one server or several that elect a leader among them.
"""

import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.process import Daemon, LabError, wait_until
from lab.sockets import free_port, listens

JAR = Path("/usr/share/java/zookeeper.jar")
#: Without it nothing is said of why a server ended.
LOGGER = Path("/usr/share/java/slf4j-simple.jar")
#: What it needs for TLS and the distribution's jar does not name.
NETTY = [
    Path(f"/usr/share/java/netty-{part}.jar")
    for part in ("codec", "resolver", "transport-native-unix-common")
]

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


SECURE = """\
serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory
secureClientPort={port}
secureClientPortAddress={address}
ssl.keyStore.location={identity}
ssl.keyStore.type=PEM
ssl.trustStore.location={ca}
ssl.trustStore.type=PEM
ssl.clientAuth={clients}
authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider
"""

#: Who may come by SASL, for Java's login module.
USERS = """\
Server {{
  org.apache.zookeeper.server.auth.DigestLoginModule required user_{user}="{password}";
}};
"""


@dataclass(frozen=True)
class Secure:
    """A port with TLS beside the plain one, and a user who is known by SASL."""

    identity: Path  #: certificate and key, PEM, in one file
    ca: Path  #: who signs the clients' certificates
    user: str
    password: str
    clients_prove: bool = True  #: whether clients must show a certificate


@dataclass(frozen=True)
class Membership:
    """A server's place in an ensemble."""

    number: int
    #: Where each server is found by the others, as zoo.cfg says it: ``server.1=address:port:port``.
    servers: Sequence[str]


class ZooKeeper:
    """One server; its port stays the same through `kill` and `start`, as do its data."""

    def __init__(
        self,
        directory: Path,
        address: str = "127.0.0.1",
        port: int | None = None,
        prefix: Sequence[str] = (),
        membership: Membership | None = None,
        secure: Secure | None = None,
    ) -> None:
        self.directory = directory
        self.address = address
        self.port = port or _recorded_port(directory) or free_port(address)
        self._prefix = list(prefix)
        self._membership = membership
        self.secure = secure
        self.secure_port = free_port(address) if secure else None
        self._daemon = Daemon(directory / "pid.json")

    @property
    def hosts(self) -> str:
        """What kazoo's client takes: ``address:port``."""
        return f"{self.address}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's pid while it lives."""
        return self._daemon.pid

    @property
    def mode(self) -> str | None:
        """``standalone``, ``leader`` or ``follower``; None while our own process does not serve."""
        pid = self.pid
        # A failed bind is silent, and another's server would answer too.
        if pid is None or not listens(pid, self.port):
            return None
        try:
            with socket.create_connection((self.address, self.port), timeout=1) as connection:
                connection.sendall(b"srvr")
                answer = connection.makefile("rb").read().decode()
        except OSError:
            return None
        return next((line[6:] for line in answer.splitlines() if line.startswith("Mode: ")), None)

    def start(self, timeout_s: float = 60) -> None:
        """Start the server and return when it serves; nothing if it runs."""
        self.launch()
        wait_until(self._serves, f"ZooKeeper on {self.hosts}", timeout_s)

    def launch(self) -> None:
        """Start the server, which serves as soon as it finds enough of its ensemble; nothing if it runs."""
        if self.pid is not None:
            return
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        settings = CONFIGURATION.format(data=data, port=self.port, address=self.address)
        if self._membership is not None:
            (data / "myid").write_text(str(self._membership.number))
            settings += "".join(f"{line}\n" for line in self._membership.servers)
        if self.secure is not None:
            settings += self._open_secure_port(self.secure)
        (self.directory / "zoo.cfg").write_text(settings)
        self._daemon.start(self._command(), self.directory / "log")

    def stop(self) -> None:
        """End the server in good order."""
        self._daemon.end()

    def kill(self) -> None:
        """End the server as a crash would."""
        self._daemon.end(signal.SIGKILL)

    def _open_secure_port(self, secure: Secure) -> str:
        """Return what zoo.cfg says of it, and write down who may come."""
        users = USERS.format(user=secure.user, password=secure.password)
        (self.directory / "users").write_text(users)
        return SECURE.format(
            port=self.secure_port,
            address=self.address,
            identity=secure.identity,
            ca=secure.ca,
            clients="need" if secure.clients_prove else "none",
        )

    def _command(self) -> list[str]:
        java = "java -Xms32m -Xmx192m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"
        options = "-Dzookeeper.jmx.log4j.disable=true -Dzookeeper.forceSync=no"
        options += " -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true"
        server = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        zoo_cfg = str(self.directory / "zoo.cfg")
        if self.secure is not None:
            options += f" -Djava.security.auth.login.config={self.directory / 'users'}"
        path = ":".join(str(jar) for jar in (JAR, LOGGER, *(NETTY if self.secure else ())))
        return [*self._prefix, *java.split(), *options.split(), "-cp", path, server, zoo_cfg]

    def _serves(self) -> bool:
        if self.pid is None:
            raise LabError(f"ZooKeeper ended at once: {(self.directory / 'log').read_text()[-2000:]}")
        return self.mode is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Ensemble:
    """Servers that are one ZooKeeper: a single one, or an odd number that elects a leader.

    Their client ports are *port* and those after it; the ports among them are 100 and 200 higher.
    """

    def __init__(
        self, directory: Path, address: str, port: int, size: int = 1, prefix: Sequence[str] = ()
    ) -> None:
        self.address = address
        ports = [port + number for number in range(size)]
        lines = [
            f"server.{number}={address}:{each + 100}:{each + 200}" for number, each in enumerate(ports, 1)
        ]
        self.servers = [
            ZooKeeper(
                directory / str(number),
                address,
                each,
                prefix,
                Membership(number, lines) if size > 1 else None,
            )
            for number, each in enumerate(ports, 1)
        ]

    @property
    def hosts(self) -> str:
        """What kazoo's client takes: ``address:port,address:port``."""
        return ",".join(server.hosts for server in self.servers)

    @property
    def is_on(self) -> bool:
        """Whether every server runs."""
        return all(server.pid is not None for server in self.servers)

    @property
    def leader(self) -> ZooKeeper | None:
        """The server that the others follow, or the only one; None while there is none."""
        return next((one for one in self.servers if one.mode in ("leader", "standalone")), None)

    def start(self) -> None:
        """Start what does not run, and return when all of them serve."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.start()

    def kill(self) -> None:
        """End all of them as a crash would."""
        for server in self.servers:
            server.kill()


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
