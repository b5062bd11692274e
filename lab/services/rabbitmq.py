"""A private RabbitMQ from the distribution's programs: ports of its own, on one address alone, gone afterwards.

For tests::

    with RabbitMQ(tmp_path / "rabbitmq") as broker:
        kombu.Connection(broker.url.replace("rabbit://", "amqp://")).connect()
"""

import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from lab.process import Daemon
from lab.services.service import Server
from lab.sockets import free_port

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

#: Two schedulers that do not spin, and no port of Erlang's own open to the network.
ERLANG = "-noinput -start_epmd false +S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
#: How a client of AMQP 0-9-1 begins, and the kind of frame with which a broker answers.
HELLO, METHOD = b"AMQP\x00\x00\x09\x01", b"\x01"


class RabbitMQ(Server):
    """One broker; durable queues stay through `kill` and `start`."""

    name = "rabbitmq"

    def __init__(self, directory: Path, address: str = "") -> None:
        super().__init__(directory, address)
        self._names_port = int(self._recorded("names-port") or free_port())
        # RabbitMQ looks whether it is free on every address before it takes it on one.
        self._peers_port = int(self._recorded("peers-port") or free_port("0.0.0.0"))
        self._names = Daemon(directory / "epmd.json")

    @property
    def url(self) -> str:
        """What oslo.messaging takes as ``transport_url``; kombu takes it with ``amqp`` for ``rabbit``."""
        return f"rabbit://guest:guest@{self.address}:{self.port}/"

    def kill(self) -> None:
        """End the broker as a crash would."""
        self._daemon.end(signal.SIGKILL)
        self._release()

    def _prepare(self) -> None:
        (self.directory / "names-port").write_text(str(self._names_port))
        (self.directory / "peers-port").write_text(str(self._peers_port))
        (self.directory / "plugins").write_text("[].")
        # Whoever is not on the machine itself may come as guest, too.
        (self.directory / "rabbitmq.conf").write_text("loopback_users = none\n")
        names: list[str | Path] = ["epmd", "-port", str(self._names_port), "-address", "127.0.0.1"]
        self._names.start([*self._alone(), *names], self.directory / "epmd.log")

    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        own = self.directory
        settings = {
            "NODENAME": f"lab{self.port}@localhost",
            "NODE_IP_ADDRESS": self.address,
            "NODE_PORT": self.port,
            "DIST_PORT": self._peers_port,
            "MNESIA_BASE": own / "data",
            "LOG_BASE": own / "logs",
            "ENABLED_PLUGINS_FILE": own / "plugins",
            "CONFIG_FILE": own / "rabbitmq.conf",
            "PID_FILE": own / "pid",
            "CONF_ENV_FILE": "/dev/null",
            # Without a shell as its parent the broker is the process that is recorded.
            "ALLOW_INPUT": "1",
            "SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }
        names = {"ERL_EPMD_PORT": self._names_port, "ERL_EPMD_ADDRESS": "127.0.0.1"}
        return [SERVER], {**names, **{f"RABBITMQ_{name}": value for name, value in settings.items()}}

    def _greeting(self) -> Mapping[str, object]:
        with socket.create_connection((self.address, self.port), 5) as connection:
            connection.sendall(HELLO)
            return {"method": True} if connection.recv(1) == METHOD else {}

    def _release(self) -> None:
        self._names.end()
