"""A private RabbitMQ from the distribution's programs: ports of its own, on loopback alone, gone afterwards.

For functional tests::

    with RabbitMQ(tmp_path) as broker:
        kombu.Connection(broker.url).connect()
"""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.process import Daemon, LabError, wait_until
from lab.sockets import free_port, listens

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
ADDRESS = "127.0.0.1"

#: Two schedulers that do not spin, and no port of Erlang's own open to the network.
ERLANG = "-noinput -start_epmd false +S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"


class RabbitMQ:
    """One broker; its port stays the same through `kill` and `start`, as do its durable queues."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port(ADDRESS)
        self._names_port = free_port(ADDRESS)
        # RabbitMQ looks whether it is free on every address before it takes it on one.
        self._peers_port = free_port("0.0.0.0")
        self._broker = Daemon(directory / "pid.json")
        self._names = Daemon(directory / "epmd.json")

    @property
    def url(self) -> str:
        """What oslo.messaging takes as ``transport_url``; kombu takes it with ``amqp`` for ``rabbit``."""
        return f"rabbit://guest:guest@{ADDRESS}:{self.port}/"

    def start(self, timeout_s: float = 60) -> None:
        """Start the broker and return when it serves; nothing if it runs."""
        if self._broker.pid is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "plugins").write_text("[].")
        if self._names.pid is None:
            names = ["epmd", "-port", str(self._names_port), "-address", ADDRESS]
            self._names.start(names, self.directory / "epmd.log")
        self._broker.start(["env", *self._environment(), SERVER], self.directory / "log")
        wait_until(self._serves, f"RabbitMQ on {ADDRESS}:{self.port}", timeout_s, pause_s=0.1)

    def kill(self) -> None:
        """End the broker as a crash would."""
        self._broker.end(signal.SIGKILL)

    def _environment(self) -> Iterator[str]:
        own = self.directory
        yield from (f"HOME={own}", f"ERL_EPMD_PORT={self._names_port}", f"ERL_EPMD_ADDRESS={ADDRESS}")
        settings = {
            "NODENAME": f"lab{self.port}@localhost",
            "NODE_IP_ADDRESS": ADDRESS,
            "NODE_PORT": self.port,
            "DIST_PORT": self._peers_port,
            "MNESIA_BASE": own / "data",
            "LOG_BASE": own / "logs",
            "ENABLED_PLUGINS_FILE": own / "plugins",
            "PID_FILE": own / "pid",
            "CONF_ENV_FILE": "/dev/null",
            # Without a shell as its parent the broker is the process that is recorded.
            "ALLOW_INPUT": "1",
            "SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }
        yield from (f"RABBITMQ_{name}={value}" for name, value in settings.items())

    def _serves(self) -> bool:
        pid = self._broker.pid
        if pid is None:
            raise LabError(f"RabbitMQ ended at once: {(self.directory / 'log').read_text()[-2000:]}")
        return listens(pid, self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._names.end()
        shutil.rmtree(self.directory / "data", ignore_errors=True)
