"""Locks of this host: one worker a host, one process a server.

An exclusive ``flock`` on a file under ``run_path`` that is opened anew for each lock, closed to let go and never
unlinked: an unlinked lock file gives two owners. The file says who holds it. ``run_path`` must be local.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler.errors import HostlerError


class LockHeld(HostlerError):
    """Another process of this host holds the lock."""

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
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "an unknown process"
            raise LockHeld(name=name, holder=holder) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} started {start_time(os.getpid())}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot: with its pid it names it for good; 0 if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(re.sub(r"^.*\)", "", stat, flags=re.DOTALL).split()[19])
