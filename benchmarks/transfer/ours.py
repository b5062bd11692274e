"""hostler's own way, each copy in a process of its own, as a worker would send it.

Run as ``python -m benchmarks.transfer.ours ORDER``: *ORDER* is JSON, the answer is JSON on standard output.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import resource
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.sockets import free_port

MIGRATION = str(uuid.UUID(int=1))


@dataclass(frozen=True)
class Order:
    """One copy."""

    directory: str  #: where receiver and sender keep theirs
    source: str
    dest: str
    encrypt: bool = True
    rates: tuple[int, ...] = ()  #: bytes a second, for as many seconds each as *rate_s* says
    rate_s: float = 0.0
    stop_at: float = 0.0  #: kill this process when that share of the bytes has left
    keep: bool = False  #: leave the receiver as it is
    compress: str = "auto"  #: or "never", or "always": all that gets smaller, whether it pays or not

    def run(self) -> dict[str, Any]:
        """Carry it out in a process of its own; return what it measured."""
        command = [sys.executable, "-m", "benchmarks.transfer.ours", json.dumps(asdict(self))]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=not self.stop_at)
        return json.loads(done.stdout) if done.stdout else {}


def sent_so_far(order: Order) -> int:
    """Return how many bytes the last copy under that directory has put on the wire."""
    return int.from_bytes((Path(order.directory) / "sent").read_bytes()[:8], "little")


def copy(order: Order) -> dict[str, Any]:
    """Open a receiver, send to it, and measure both ends."""
    from hostler.drivers.images import tls

    logging.disable(logging.WARNING)
    base = Path(order.directory)
    base.mkdir(exist_ok=True)
    tls.prepare_environment(base / "run")
    from hostler.drivers.images.receiver import NbdReceiver
    from hostler.drivers.images.sender import NbdSender
    from hostler.drivers.images.trials import Never, Trials
    from hostler.objects import Export

    port, packs = free_port(), order.compress != "never"
    receiver = NbdReceiver(
        base / "state", base / "run", "127.0.0.1", (port, port + 7), encrypt=order.encrypt, unpack=packs
    )
    choose = {"auto": Trials, "never": Never, "always": always()}[order.compress]
    sender = NbdSender(base / "run", encrypt=order.encrypt, choose=choose)
    export = Export("0", order.source, order.dest, Path(order.source).stat().st_size, True)
    count = _counted(base / "sent", order.stop_at, Path(order.source))
    began, cpu = time.monotonic(), time.process_time()
    address = receiver.open(MIGRATION, [export], "127.0.0.1")
    pids = _receiving(base / "state" / MIGRATION)
    timeline = _Timeline(order, began)
    (digest,) = sender.send(address, timeline.note, lambda: None, 60, timeline.pace)
    wall = time.monotonic() - began
    found = {
        "wall_s": wall,
        "cpu_s": time.process_time() - cpu + sum(map(_cpu_of, pids)),
        "sender_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "receiver_mib": max(map(_peak_of, pids)),
        "sent_bytes": count(),
        "rates": timeline.measured,
        "digest": asdict(digest),
    }
    if order.keep:
        receiver.close(MIGRATION)
    else:
        receiver.forget(MIGRATION)
    return found


def always() -> Any:
    """Return a choice that packs all that gets smaller."""
    from hostler.drivers.images.trials import Never, Turn

    class Always(Never):
        def next(self) -> Turn:
            return Turn(0, pack=True)

        def failed(self, *, for_good: bool) -> bool:
            raise RuntimeError("packed blocks do not get through")

    return Always


def _receiving(home: Path) -> list[int]:
    """Return the processes that take images."""
    from hostler.drivers.images import recorded

    known = (recorded.receiving(home), recorded.unpacking(home))
    return [record.process.pid for record in known if record and record.process]


class _Timeline:
    """Changes the rate as the order says, and measures what each came to."""

    def __init__(self, order: Order, began: float) -> None:
        from hostler.drivers.images.pace import Pace

        self._order = order
        self._step = 0
        self._since = began
        self._before = 0
        self.measured: list[float] = []
        self.pace = Pace(order.rates[0] if order.rates else None)

    def note(self, progress: Any) -> None:
        """The copy is so far."""
        now = time.monotonic()
        if not self._order.rates or self._step >= len(self._order.rates):
            return
        if now - self._since >= self._order.rate_s:
            self.measured.append((progress.sent_bytes - self._before) / (now - self._since))
            self._step += 1
            self._since, self._before = now, progress.sent_bytes
            more = self._step < len(self._order.rates)
            self.pace.set(self._order.rates[self._step] if more else None)


def _counted(path: Path, stop_at: float, source: Path) -> Any:
    """Count what the connections send of images, in a file that outlives this process; return how to read it."""
    from hostler.drivers.images.link import Link

    path.write_bytes(bytes(mmap.PAGESIZE))
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), mmap.PAGESIZE)
    limit = int(source.stat().st_blocks * 512 * stop_at) if stop_at else 1 << 62
    real, lock = Link.send, threading.Lock()

    def read() -> int:
        return int.from_bytes(shared[:8], "little")

    def send(self: Any, view: memoryview, offset: int, *done: Any) -> None:
        real(self, view, offset, *done)
        if self._name == "0":
            with lock:  # the connections have threads of their own
                shared[:8] = (read() + len(view)).to_bytes(8, "little")
            if read() >= limit:
                os.kill(os.getpid(), 9)

    setattr(Link, "send", send)  # noqa: B010 - a method is replaced
    return read


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_of(pid: int) -> int:
    """Return the most memory that a process ever had, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) >> 10
    return 0


if __name__ == "__main__":
    print(json.dumps(copy(Order(**json.loads(sys.argv[1])))))
