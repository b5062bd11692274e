"""Watches the machine's processes: a server that two QEMUs execute at once runs twice, whoever says what.

A QEMU that is there and paused is no second copy: the destination holds such a one before the hand-over. So of two
QEMUs of one UUID the time that their virtual CPUs have spent is compared.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

#: Between two looks, in seconds.
PAUSE_S = 0.1
#: What a virtual CPU must have spent while there were two for it to count as executing, in nanoseconds.
EXECUTING_NS = 20_000_000


class Witness:
    """Looks on for as long as a ``with`` block lasts."""

    def __init__(self, servers: set[str]) -> None:
        #: What was seen that must not be, as sentences.
        self.violations: list[str] = []
        self.looks = 0
        self._servers = servers
        #: Of each server that has two QEMUs: what the virtual CPUs of each had spent when the second came.
        self._at_first: dict[str, dict[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def running(self, server: str) -> list[int]:
        """The pids of the QEMUs of a server, on any host."""
        return self._look().get(server, [])

    def _watch(self) -> None:
        while not self._ended.wait(PAUSE_S):
            self._compare(self._look())
            self.looks += 1

    def _look(self) -> dict[str, list[int]]:
        """The QEMUs of each server."""
        found: dict[str, list[int]] = {}
        for process in Path("/proc").iterdir():
            server = _server_of(process) if process.name.isdigit() else None
            if server is not None and server in self._servers:
                found.setdefault(server, []).append(int(process.name))
        return found

    def _compare(self, found: dict[str, list[int]]) -> None:
        for server in self._servers:
            pids = found.get(server, [])
            if len(pids) < 2:
                self._at_first.pop(server, None)
                continue
            first = self._at_first.setdefault(server, {})
            spent = {pid: _spent_ns(pid) for pid in pids}
            for pid in pids:
                first.setdefault(pid, spent[pid])
            executing = [pid for pid in pids if spent[pid] - first[pid] > EXECUTING_NS]
            if len(executing) > 1:
                self.violations.append(f"{server} executes twice at {time.strftime('%X')}: pids {executing}")
                first.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()


def _server_of(process: Path) -> str | None:
    """The UUID of the server that a QEMU runs; None for any other process."""
    try:
        if not (process / "comm").read_text().startswith("qemu-system"):
            return None
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return words[words.index(b"-uuid") + 1].decode() if b"-uuid" in words else None


def _spent_ns(pid: int) -> int:
    """The time that the virtual CPUs of a QEMU have executed."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            if (task / "comm").read_text().startswith("CPU "):
                spent += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return spent
