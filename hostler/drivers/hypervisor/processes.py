"""The QEMU processes of this host, seen without asking libvirt."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")


def qemu_pids(uuid: str, proc: Path = PROC) -> list[int]:
    """Return the processes whose command line runs a guest of that UUID, sorted.

    libvirt gives every QEMU ``-uuid``; one that somebody started without it cannot be told from others.
    """
    return sorted(
        int(entry.name) for entry in proc.iterdir() if entry.name.isdigit() and _runs(entry / "cmdline", uuid)
    )


def _runs(cmdline: Path, uuid: str) -> bool:
    try:
        words = cmdline.read_bytes().split(b"\0")
    except OSError:  # it ended while we were looking
        return False
    program = words[0].rpartition(b"/")[2].lower()
    if b"qemu" not in program and b"kvm" not in program and b"-name" not in words:
        return False
    wanted = uuid.lower().encode()
    return any(flag == b"-uuid" and value.lower() == wanted for flag, value in itertools.pairwise(words))


class GuestProcesses:
    """The processes of one guest, held by pidfd so that their end is seen as an event and never missed.

    A process that is about to end loses its command line before it closes its files: a scan of ``/proc``
    alone would call the images free too early. Those seen alive are waited for to the very end.
    """

    def __init__(self, uuid: str, proc: Path = PROC) -> None:
        self._uuid = uuid
        self._proc = proc
        self._held: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def alive(self) -> bool:
        """Look for new ones, let go of those that ended, and tell whether any is left."""
        for pid in qemu_pids(self._uuid, self._proc):
            if pid not in self._held:
                with contextlib.suppress(ProcessLookupError):
                    self._held[pid] = os.pidfd_open(pid)
        self.wait(0)
        return bool(self._held)

    def wait(self, timeout_s: float) -> None:
        """Wait until one of those seen alive has ended, at most *timeout_s*."""
        poll = select.poll()
        for descriptor in self._held.values():
            poll.register(descriptor, select.POLLIN)
        ended = {descriptor for descriptor, _ in poll.poll(timeout_s * 1000)}
        for pid, descriptor in list(self._held.items()):
            if descriptor in ended:
                os.close(self._held.pop(pid))
