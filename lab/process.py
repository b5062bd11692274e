"""Processes that outlive the command that started them, and are ended by nobody else's identity.

A pid alone may have been given to another process since. A `Daemon` is therefore recorded with its start time
and the machine's boot, and is signalled through a pidfd opened before the record is compared.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

#: Our own children, kept so that they are reaped when they end.
_children: dict[int, subprocess.Popen[bytes]] = {}


class LabError(Exception):
    """Something in the lab did not come to be in time, or a command failed."""


def run(argv: Sequence[str | Path], timeout_s: float = 120) -> str:
    """The output of a command on this machine; `LabError` with its words if it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in argv], check=True, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.CalledProcessError as failed:
        words = " ".join(str(word) for word in argv)
        raise LabError(
            f"{words}: exit code {failed.returncode}: {failed.stderr or failed.stdout}"
        ) from failed
    return done.stdout


def wait_until(
    condition: Callable[[], bool], what: str, timeout_s: float = 30, pause_s: float = 0.02
) -> None:
    """Return when *condition* holds; `LabError` naming *what* if it does not within *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s:g} s in vain: {what}")
        time.sleep(pause_s)


def start_time(pid: int) -> int | None:
    """Clock ticks from the machine's boot to the start of *pid*; None if it is gone or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in brackets and may hold anything, brackets and spaces too.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def children_of(pid: int) -> list[int]:
    """The pids of the children of *pid*'s main thread."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass(frozen=True)
class Daemon:
    """A process recorded in a file, so that a later command can find or end exactly it."""

    record: Path

    def start(self, argv: Sequence[str | Path], log: Path) -> int:
        """Start *argv* in a session of its own, its output appended to *log*; ends a former one first."""
        self.end()
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
            )
        _children[process.pid] = process
        born = start_time(process.pid)
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.record.write_text(json.dumps(_identity(process.pid, born)))
        return process.pid

    @property
    def pid(self) -> int | None:
        """The process's pid as long as it lives."""
        pid = self._recorded_pid()
        if pid is None:
            return None
        recorded = json.loads(self.record.read_text())
        born = start_time(pid)
        return pid if born is not None and recorded == _identity(pid, born) else None

    def wait(self, timeout_s: float = 30) -> None:
        """See the process gone by itself."""
        _end(self._recorded_pid(), None, timeout_s, still_ours=lambda: self.pid is not None)

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 15) -> None:
        """Signal the process and see it gone; SIGKILL after *timeout_s*. Asking twice is asking once."""
        _end(self._recorded_pid(), number, timeout_s, still_ours=lambda: self.pid is not None)
        self.record.unlink(missing_ok=True)

    def _recorded_pid(self) -> int | None:
        try:
            return int(json.loads(self.record.read_text())["pid"])
        except (FileNotFoundError, ValueError):
            return None


def marked(mark: str) -> list[int]:
    """The processes that were started with *mark*, ``NAME=value``, in their environment."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _has_mark(pid, mark)]


def end_marked(mark: str, timeout_s: float = 15) -> None:
    """End every process that has the mark, recorded or not."""
    for pid in marked(mark):
        _end(pid, signal.SIGTERM, timeout_s, still_ours=partial(_has_mark, pid, mark))


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or it has rights that we have not: then we have not started it
        return False


def _identity(pid: int, born: int | None) -> dict[str, object]:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"pid": pid, "start_time": born, "boot_id": boot_id}


def _end(pid: int | None, number: int | None, timeout_s: float, still_ours: Callable[[], bool]) -> None:
    if pid is None:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if still_ours():
            _signal_and_wait(descriptor, number, timeout_s)
    finally:
        os.close(descriptor)
    if pid in _children and start_time(pid) is None:
        _children.pop(pid).wait()


def _signal_and_wait(descriptor: int, number: int | None, timeout_s: float) -> None:
    if number is not None:
        signal.pidfd_send_signal(descriptor, number)
        if _ended(descriptor, timeout_s):
            return
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    if not _ended(descriptor, timeout_s):
        raise LabError(f"a process does not end within {timeout_s:g} s")


def _ended(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
