"""Processes that outlive whoever started them: told apart by start time, ended by pidfd."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

from hostler import errors
from hostler.objects import Record

TERM_PATIENCE_S = 5.0
#: A process that writes its last gigabytes to a slow disk does not die sooner.
KILL_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Process(Record):
    """A process as it can be recognised later, also after a reboot."""

    pid: int
    started: int  #: clock ticks after boot: field 22 of ``/proc/PID/stat``
    boot: str  #: the kernel's id of this boot

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return what runs as *pid*; None for nothing, or for a zombie."""
        state, process = _look(pid)
        return None if state in ("Z", "X") else process

    @property
    def alive(self) -> bool:
        """Whether this very process runs."""
        return Process.of(self.pid) == self

    def end(self) -> None:
        """End it and see it gone: asked first, then killed.

        One that stays is a :class:`hostler.errors.MigrationError`.
        """
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # Asked after opening: the descriptor means this process then, and no other. A zombie counts:
            # threads of it may still be writing.
            if _look(self.pid)[1] == self:
                self._end(fd)
        finally:
            os.close(fd)

    def _end(self, fd: int) -> None:
        gone = select.poll()
        gone.register(fd, select.POLLIN)
        for number, patience in ((signal.SIGTERM, TERM_PATIENCE_S), (signal.SIGKILL, KILL_PATIENCE_S)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
            if gone.poll(patience * 1000):
                return
        raise errors.MigrationError(f"process {self.pid} cannot be ended: it hangs in the kernel")


def _look(pid: int) -> tuple[str, Process | None]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "", None
    fields = text.rpartition(")")[2].split()
    return fields[0], Process(pid, int(fields[19]), _boot())


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def running_with(argument: str) -> list[Process]:
    """Return the processes that have *argument* on their command line, word for word."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            process = Process.of(int(entry.name)) if os.fsencode(argument) in words else None
            if process:
                found.append(process)
    return found
