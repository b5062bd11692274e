"""Locks of this host: one worker a host, one process a server.

An exclusive ``flock`` on a file under ``run_path`` that is opened anew for each lock, closed to let go and never
unlinked: an unlinked lock file gives two owners. The file says who holds it. ``run_path`` must be local.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler.drivers.processes import Process
from hostler.errors import HostlerError


class LockHeld(HostlerError):
    """Another process of this host holds the lock. *process*: who; None if it left no name."""

    template = "{name} is held by {holder}"


@contextmanager
def held(run_path: str, name: str) -> Iterator[int]:
    """Hold the lock *name*; :class:`LockHeld` at once if another process has it. Gives its file descriptor."""
    directory = Path(run_path, "locks")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = _read(descriptor)
            holder = f"process {process.pid}" if process else "an unknown process"
            raise LockHeld(name=name, holder=holder, process=process) from None
        _sign(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    me = Process.of(os.getpid())
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(me.to_dict() if me else {}).encode(), 0)


def _read(descriptor: int) -> Process | None:
    try:
        return Process.from_dict(json.loads(os.pread(descriptor, 1000, 0)))
    except (ValueError, TypeError, AttributeError):
        return None
