"""The disks that are sent."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30
_SCATTERED = 1024  #: extents of the sparse disk


def dense_raw(path: Path, scale: float) -> None:
    """Make (a): 2 GiB of random bytes."""
    with path.open("wb") as file:
        fill(file.fileno(), int(2 * GIB * scale))


def scattered_qcow2(path: Path, scale: float) -> None:
    """Make (b): qcow2 of 20 GiB, of which 1 GiB is allocated, in pieces of 1 MiB all over it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(20 * GIB)], check=True)
    count = int(1024 * scale)
    words = [
        f"write -q -P {random.Random(at).randrange(1, 256)} {at * (20 * GIB // count) // MIB * MIB} {MIB}"
        for at in range(count)
    ]
    commands = [argument for word in words for argument in ("-c", word)]
    subprocess.run(["qemu-io", "-f", "qcow2", *commands, path], check=True, stdout=subprocess.DEVNULL)


def sparse_raw(path: Path, scale: float) -> None:
    """Make (c): raw of 20 GiB, of which 1 GiB lies in 1,024 extents."""
    with path.open("wb") as file:
        file.truncate(20 * GIB)
        piece = int(GIB * scale) // _SCATTERED
        for number in range(_SCATTERED):
            file.seek(number * (20 * GIB // _SCATTERED))
            fill(file.fileno(), piece)


DISKS: dict[str, Callable[[Path, float], None]] = {"a": dense_raw, "b": scattered_qcow2, "c": sparse_raw}
SAID = {
    "a": "raw, 2 GiB of random bytes",
    "b": "qcow2, 20 GiB of which 1 GiB is allocated, scattered",
    "c": "raw, 20 GiB of which 1 GiB lies in 1,024 extents",
}


def make(name: str, path: Path, scale: float = 1.0) -> None:
    """Make one of the disks, and see it on stable storage."""
    DISKS[name](path, scale)
    sync(path)


def sync(path: Path) -> None:
    """See a file on stable storage."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def allocated(path: Path) -> int:
    """Return how many bytes of a file the file system has given it."""
    return path.stat().st_blocks * 512


def change(path: Path, share: float) -> None:
    """Change one byte in that share of the file's blocks of 4 MiB, evenly spread."""
    blocks = path.stat().st_size // (4 * MIB)
    count = max(1, int(blocks * share))
    with path.open("r+b") as file:
        for number in range(count):
            at = number * blocks // count * 4 * MIB + 12345
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 255]))
    sync(path)


def fill(fd: int, count: int) -> None:
    """Write so many random bytes."""
    while count > 0:
        count -= os.write(fd, os.urandom(min(count, 4 * MIB)))
