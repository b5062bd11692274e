"""The processes of a receiver: each an nbdkit with a socket, in a room with its files."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hostler import errors
from hostler.drivers import processes as process
from hostler.drivers.images import confined, listener, state, tls
from hostler.drivers.images.launching import launch

LOG = logging.getLogger(__name__)

START_PATIENCE_S = 10.0
#: nbdkit's user for the first of the ports, the next one's for the second: numbers that systemd leaves unused.
FIRST_UID = 60706


@dataclass(frozen=True)
class Service:
    """What one nbdkit is to do for a migration."""

    name: str  #: of its log, and of the directory in which it says that it is ready
    migration: str
    #: Returns the plugin and what it is told, given how the process finds a file.
    plugin: Callable[[Callable[[Path], Path]], list[str]]
    files: Sequence[Path]  #: what it is given; links are followed
    user: int  #: counted from :data:`FIRST_UID`
    environment: Mapping[str, str] = field(default_factory=dict)


class Servers:
    """Starts nbdkits that listen on *address*; the files of a migration lie in *home* and *run_home*."""

    def __init__(self, address: str, nbdkit: str, keys: tls.Keys, *, confine: bool) -> None:
        self._address = address
        self._nbdkit = nbdkit
        self._keys = keys
        self._confine = confine

    def unavailable(self, reason: str) -> errors.ReceiverUnavailable:
        """Return the error that says so of this host."""
        return errors.ReceiverUnavailable(host=self._address, reason=reason)

    def listen(self, ports: Iterable[int], peer: str) -> socket.socket:
        """Return a socket on the first of *ports* that is free, open to *peer*."""
        problem = "no port is configured"
        for port in dict.fromkeys(ports):
            try:
                return listener.listen(self._address, port, peer)
            except OSError as error:
                problem = f"{self._address}:{port}: {error.strerror or error}"
                if error.errno != errno.EADDRINUSE:
                    break
        raise self.unavailable(problem)

    def listen_once_free(self, port: int, peer: str) -> socket.socket:
        """Return a socket on the port of a process that was ended: what that had started may hold it for a moment."""
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                return self.listen([port], peer)
            except errors.ReceiverUnavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.005)

    def launch(self, service: Service, listening: int, home: Path, run_home: Path) -> process.Process | None:
        """Start it with the socket *listening*; return its process, None if it is gone already."""
        confine = self._confines(service.migration)
        inside = confined.inside if confine else _as_it_is
        ready, settings = state.private_directory(_ready(service, run_home)), tls.child_settings(run_home)
        (ready / "pid").unlink(missing_ok=True)  # of one that ran before
        proofs = self._keys.lay_out(home, run_home if confine else home, service.migration)
        # A connection has one request on its way; each further thread would only hold a buffer of its own.
        argv = [self._nbdkit, "--foreground", f"--pidfile={inside(ready / 'pid')}", "--threads=1"]
        argv += [*self._keys.arguments(inside(home)), *service.plugin(inside)]
        if confine:
            files = {path: path for path in (ready, settings, *service.files)}
            yard = state.private_directory(run_home / "yard")
            argv = confined.command(argv, files | proofs, yard, FIRST_UID + service.user)
        environment = tls.child_environment(inside(settings)) | dict(service.environment)
        return launch(argv, listening, home / f"{service.name}.log", environment)

    def _confines(self, migration: str) -> bool:
        """Whether nbdkit gets a room of its own; a worker that is root does not run it without, unless told so."""
        if not self._confine:
            LOG.warning("the receiver of migration %s is not confined: [images] confine is false", migration)
            return False
        reason = confined.obstacle()
        if reason is None:
            return True
        if os.geteuid() == 0:
            raise self.unavailable(f"nbdkit cannot be confined: {reason}; see [images] confine")
        LOG.warning(
            "the receiver of migration %s is not confined, and runs as this user: %s", migration, reason
        )
        return False

    def ready(
        self, service: Service, launched: process.Process | None, home: Path, run_home: Path
    ) -> process.Process:
        """Return the process that was launched once it takes connections; it may have to be ended if it does not."""
        deadline = time.monotonic() + START_PATIENCE_S
        while launched and launched.alive and time.monotonic() < deadline:
            if (_ready(service, run_home) / "pid").exists():
                return launched
            time.sleep(0.005)
        raise self.unavailable(_log_tail(home / f"{service.name}.log") or "nbdkit said nothing")


def _ready(service: Service, run_home: Path) -> Path:
    return run_home / f"{service.name}.ready"


def _log_tail(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-3:])


def _as_it_is(path: Path) -> Path:
    return path
