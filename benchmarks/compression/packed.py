"""A prototype of blocks that travel packed: through slots of a file that nbdkit offers, unpacked by another process.

What a real one would have to do costs the same here: TLS, the hash of each block, the seal of each frame, an answer for
each, fsync. What it would need besides, notes of what has arrived, another way when the other end is away, is missing.

Run as ``python -m benchmarks.compression.packed ORDER``: *ORDER* is JSON, the answer is JSON on standard output.
"""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.sockets import free_port

BLOCK = 4 << 20
SLOTS, THREADS = 3, 2
#: seal, number of the frame in its slot, block, length; then what is packed
_HEAD = struct.Struct("<16sQQQ")
SLOT = BLOCK + (64 << 10)
ANSWERS = SLOTS * SLOT
FILE = ANSWERS + 8 * SLOTS
_END = (1 << 64) - 1
_LOOK_S = 0.001


@dataclass(frozen=True)
class Order:
    """One copy."""

    directory: str  #: where its slots are: in memory, or they are written to the disk as well
    source: str
    dest: str
    level: int

    def run(self) -> dict[str, Any]:
        """Carry it out in a process of its own; return what it measured."""
        command = [sys.executable, "-m", "benchmarks.compression.packed", json.dumps(asdict(self))]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def copy(order: Order) -> dict[str, Any]:
    """Send it, and measure both ends."""
    from hostler.drivers.images import tls

    logging.disable(logging.WARNING)
    base = Path(order.directory)
    base.mkdir(exist_ok=True)
    tls.prepare_environment(base / "run")
    size = Path(order.source).stat().st_size
    for number in range(THREADS):
        (base / f"{number}.packed").write_bytes(bytes(FILE))
    with Path(order.dest).open("wb") as part:
        part.truncate(size)
    with _served(base) as (address, key):
        unpacking = multiprocessing.get_context("fork").Process(target=_unpack, args=(order,))
        unpacking.start()
        began = time.monotonic()
        sender = _Sender(order, address, key)
        sender.run()
        wall = time.monotonic() - began
        unpacking.join()
    # both others are gone, and counted with the children
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    return {"wall_s": wall, "cpu_s": cpu, "ratio": size / sender.sent_bytes}


@contextmanager
def _served(base: Path) -> Iterator[tuple[Any, Path]]:
    from hostler.drivers.images import tls
    from hostler.objects import ReceiverAddress

    username, key, port = str(uuid.UUID(int=2)), tls.new_key(), free_port()
    tls.write_key(base / "key.psk", username, key)
    command = [
        "nbdkit",
        "--foreground",
        "--ipaddr=127.0.0.1",
        f"--port={port}",
        "--threads=1",
        "--tls=require",
    ]
    command += [f"--tls-psk={base / 'key.psk'}", "file", f"dir={base}"]
    with subprocess.Popen(command, env=tls.child_environment(tls.child_settings(base))) as server:
        try:
            while not _listens(port):
                time.sleep(_LOOK_S)
            yield ReceiverAddress("127.0.0.1", port, username, key), base / "key.psk"
        finally:
            server.kill()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


class _Sender:
    """Reads, hashes, packs and sends: a few threads with a connection and slots of their own."""

    def __init__(self, order: Order, address: Any, key: Path) -> None:
        self._order = order
        self._address = address
        self._key = key
        self._blocks = iter(range(-(-Path(order.source).stat().st_size // BLOCK)))
        self._lock = threading.Lock()
        self.sent_bytes = 0

    def run(self) -> None:
        """Return when all is on stable storage at the other end."""
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, number: int) -> None:
        from hostler.drivers.images.link import Link

        zstd = importlib.import_module("zstandard").ZstdCompressor(level=self._order.level)
        link = Link(self._address, f"{number}.packed", self._key, self._order.source)
        link.connect()
        counts = [0] * SLOTS
        with Path(self._order.source).open("rb") as file:
            while (index := self._take()) is not None:
                data = os.pread(file.fileno(), BLOCK, index * BLOCK)
                _seal(data)  # stands for the block's hash
                self._put(link, counts, index, zstd.compress(data))
        self._wait(link, counts)  # the last frame is looked at before the others of its file, as often as not
        self._put(link, counts, _END, b"")
        self._wait(link, counts)
        link.close()

    @staticmethod
    def _wait(link: Any, counts: list[int]) -> None:
        while _answers(link) != tuple(counts):
            time.sleep(_LOOK_S)

    def _take(self) -> int | None:
        with self._lock:
            return next(self._blocks, None)

    def _put(self, link: Any, counts: list[int], index: int, packed: bytes) -> None:
        while not (free := [slot for slot, done in enumerate(_answers(link)) if done == counts[slot]]):
            time.sleep(_LOOK_S)
        slot = free[0]
        counts[slot] += 1
        frame = _HEAD.pack(_seal(packed), counts[slot], index, len(packed)) + packed
        link.write(memoryview(frame), slot * SLOT)
        with self._lock:
            self.sent_bytes += len(frame)


def _answers(link: Any) -> tuple[int, ...]:
    return struct.unpack(f"<{SLOTS}Q", link.read(8 * SLOTS, ANSWERS))


def _seal(body: bytes) -> bytes:
    from blake3 import blake3

    return bytes(blake3(body).digest(length=16))


def _unpack(order: Order) -> None:
    """The other end: what the destination's worker would do."""
    threads = [threading.Thread(target=_unpack_file, args=(order, number)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _unpack_file(order: Order, number: int) -> None:
    zstd = importlib.import_module("zstandard").ZstdDecompressor()
    slots = os.open(Path(order.directory) / f"{number}.packed", os.O_RDWR)
    part = os.open(order.dest, os.O_WRONLY)
    counts, over = [0] * SLOTS, False
    while not over:
        quiet = True
        for slot in range(SLOTS):
            seal, count, index, length = _HEAD.unpack(os.pread(slots, _HEAD.size, slot * SLOT))
            packed = (
                os.pread(slots, min(length, SLOT), slot * SLOT + _HEAD.size) if count > counts[slot] else b""
            )
            if count <= counts[slot] or seal != _seal(packed):
                continue  # nothing new, or not whole yet
            quiet = False
            over = index == _END
            if over:
                os.fsync(part)
            else:
                os.pwrite(part, zstd.decompress(packed, max_output_size=BLOCK), index * BLOCK)
            counts[slot] = count
            os.pwrite(slots, struct.pack("<Q", count), ANSWERS + 8 * slot)
        if quiet:
            time.sleep(_LOOK_S)


if __name__ == "__main__":
    print(json.dumps(copy(Order(**json.loads(sys.argv[1])))))
