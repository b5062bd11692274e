"""The receiver's second process, for blocks that travel packed: nbdkit's ``python`` plugin with :mod:`.unpacker`.

It has the first one's user, key, files and peer, and a port of its own, which the source reads from the first one's
export ``packed``: a source of an earlier version never asks. A copy goes without it where it cannot run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostler import errors
from hostler.drivers.images import recorded, state, unpacker
from hostler.drivers.images.recorded import Unpacking
from hostler.drivers.images.serving import Servers, Service

LOG = logging.getLogger(__name__)

#: The export that tells the port, 0 for none, and its contents.
EXPORT, PORT = "packed", struct.Struct("<Q")
#: What it takes, by the names of Debian's packages.
PACKAGES = ("nbdkit-plugin-python", "python3-zstandard")
HINT = f"apt-get install {' '.join(PACKAGES)}, or set [images] compress = never"
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
_TRIAL_S = 30.0


@dataclass(frozen=True)
class Place:
    """Where a migration's receiver has its files, and what the two processes share."""

    migration: str
    peer: str
    home: Path
    run_home: Path
    user: int
    parts: list[str]  #: names of the exports that take blocks

    @property
    def exports(self) -> Path:
        """What nbdkit offers."""
        return self.run_home / "exports"


class Unpackers:
    """Starts and finds the second processes of a host's receivers; none of it is a reason to fail."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._complaint = ""

    def serve(self, place: Place, ports: Iterable[int]) -> None:
        """See that it runs, at its old port or one of *ports*, and that the source can know; nobody waits for it."""
        if not (place.exports / EXPORT).exists():
            return  # its receiver was started by an earlier version, and cannot tell
        known = recorded.unpacking(place.home)
        try:
            if not known or not known.process or not known.process.alive:
                known = self._start(place, [known.port, *ports] if known else ports)
            tell(place.exports, known.port)
        except (errors.ReceiverUnavailable, OSError) as error:
            self._complain(str(error))
            tell(place.exports, 0)

    def _start(self, place: Place, ports: Iterable[int]) -> Unpacking:
        service = _service(place)
        with self._servers.listen(ports, place.peer) as sock:
            port: int = sock.getsockname()[1]
            launched = self._servers.launch(service, sock.fileno(), place.home, place.run_home)
        record = Unpacking(port, launched)
        recorded.write(place.home, record)
        # who connects meanwhile waits in the socket's queue
        threading.Thread(
            target=self._watch,
            args=(place, service, record),
            name=f"unpack-{place.migration[:8]}",
            daemon=True,
        ).start()
        return record

    def _watch(self, place: Place, service: Service, record: Unpacking) -> None:
        """Say why it does not start, and have the source know."""
        try:
            self._servers.ready(service, record.process, place.home, place.run_home)
        except FileNotFoundError:
            return  # its migration is over, and its log is gone
        except errors.ReceiverUnavailable as error:
            if recorded.unpacking(place.home) == record:  # nobody has ended it
                self._complain(str(error))
                end(place.home)
                with contextlib.suppress(FileNotFoundError):
                    tell(place.exports, 0)

    def _complain(self, reason: str) -> None:
        if self._complaint != reason:
            self._complaint = reason
            LOG.warning("images arrive here as they are, never packed: %s; %s", reason, HINT)


def obstacle(nbdkit: str) -> str:
    """Return why the process cannot run on this host; empty where it can. It is tried, and takes nothing."""
    words = [nbdkit, "-U", "-", "--run", "true", "python", unpacker.__file__, "dir=/nonexistent"]
    environment = os.environ | _ENVIRONMENT
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False, timeout=_TRIAL_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = " / ".join(done.stderr.splitlines()[-2:])
    return (said or f"exit code {done.returncode}") if done.returncode else ""


def end(home: Path) -> None:
    """End the process, see it gone and forget it. Nothing if there is none."""
    if known := recorded.unpacking(home):
        state.remove(home / recorded.UNPACKER)
        if known.process:
            known.process.end()


def give_way(homes: Iterable[Path], ports: Sequence[int]) -> int | None:
    """End a process that holds one of *ports*, which a receiver needs to run at all; return the port."""
    for home in homes:
        known = recorded.unpacking(home)
        if known and known.port in ports:
            end(home)
            return known.port
    return None


def tell(exports: Path, port: int) -> None:
    """Tell the source at which port blocks may travel packed; the file stays the one that nbdkit was given."""
    fd = os.open(exports / EXPORT, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, PORT.pack(port), 0)
    finally:
        os.close(fd)


def _service(place: Place) -> Service:
    script = state.private_directory(place.run_home / "plugin") / "unpacker.py"
    shutil.copyfile(unpacker.__file__, script)
    return Service(
        name="unpacker",
        migration=place.migration,
        # "dir=" is also what the receiver's end knows a process by that was started but never recorded
        plugin=lambda inside: ["python", str(inside(script)), f"dir={inside(place.exports)}"],
        files=[script, *(place.exports / name for name in place.parts)],
        user=place.user,
        environment=_ENVIRONMENT,
    )
