"""Whether compression pays: hostler's copies as they are, packed, and as it chooses, over links of several rates.

    python -m benchmarks.compression [--rounds 3] [--output FILE] [--links 100mbit,1gbit]

As root, for a network namespace whose loopback is slowed down with ``tc`` (tbf). All ways run in one namespace,
alternating; medians are printed, and all figures stored as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zstandard

from benchmarks.transfer import ours
from benchmarks.transfer.__main__ import machine
from benchmarks.transfer.data import MIB, sync
from hostler.drivers.images.extents import BLOCK_BYTES

#: What tc calls the rates, and how much of a disk is sent over each; empty: as fast as it can.
LINKS = {"30mbit": 48, "100mbit": 128, "300mbit": 256, "1gbit": 512, "": 512}
WAYS = ("never", "auto", "always")
TREES = ("/usr/lib", "/usr/bin", "/usr/share")


def guest_like(path: Path, size: int) -> None:
    """Fill a file with what a guest's file system holds: files of this machine's system, in no order of their names."""
    found = [Path(top, name) for tree in TREES for top, _, names in os.walk(tree) for name in names]
    found.sort(key=lambda one: hashlib.blake2b(str(one).encode()).digest())
    with path.open("wb") as disk:
        for one in found:
            if disk.tell() >= size:
                break
            if one.is_file() and not one.is_symlink():
                disk.write(one.read_bytes()[: size - disk.tell()])
                disk.truncate(-(-disk.tell() // 4096) * 4096)
                disk.seek(0, os.SEEK_END)
        disk.truncate(size)
    sync(path)


def random_bytes(path: Path, size: int) -> None:
    """Fill a file with what nothing makes smaller."""
    with path.open("wb") as disk:
        for _ in range(size // MIB):
            disk.write(os.urandom(MIB))
    sync(path)


DISKS = {"guest": guest_like, "random": random_bytes}


def limit(rate: str) -> None:
    """Slow this namespace's loopback down to *rate*."""
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=False, stderr=subprocess.DEVNULL)
    if rate:
        words = f"tc qdisc add dev lo root tbf rate {rate} burst 256kb latency 100ms"
        subprocess.run(words.split(), check=True)


def alone(source: Path) -> dict[str, Any]:
    """Return what zstd does to the blocks of a file by itself, on one CPU."""
    with source.open("rb") as disk:
        blocks = [disk.read(BLOCK_BYTES) for _ in range(32)]
    whole, found = sum(map(len, blocks)), {}
    for level in (-5, 1, 3, 6):
        packer, unpacker = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
        began = time.process_time()
        packed = [packer.compress(block) for block in blocks]
        between = time.process_time()
        for one in packed:
            unpacker.decompress(one, max_output_size=BLOCK_BYTES)
        unpacked = time.process_time()
        found[str(level)] = {
            "ratio": whole / sum(map(len, packed)),
            "pack_mib_s": whole / MIB / (between - began),
            "unpack_mib_s": whole / MIB / (unpacked - between),
        }
    return found


def race(directory: Path, disk: str, rate: str, rounds: int) -> dict[str, Any]:
    """Send one disk each way, alternating; return what each took."""
    source, dest = directory / "source", directory / "dest"
    DISKS[disk](source, LINKS[rate] * MIB)
    limit(rate)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, runs in found.items():
            one = ours.Order(str(directory / "ours"), str(source), str(dest), compress=way).run()
            if subprocess.run(["cmp", "-s", source, dest], check=False).returncode:
                raise RuntimeError(f"{way}: what arrived is not what left")
            shutil.rmtree(directory / "ours")
            dest.unlink()
            sent = one["sent_bytes"] / (LINKS[rate] * MIB)
            runs.append({"wall_s": one["wall_s"], "cpu_s": one["cpu_s"], "sent": sent})
    limit("")
    source.unlink()
    medians = {
        way: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for way, runs in found.items()
    }
    return medians | {"load": os.getloadavg()[0], "all": found}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--links", type=lambda text: text.split(","), default=list(LINKS))
    parser.add_argument("--disks", type=lambda text: text.split(","), default=list(DISKS))
    parser.add_argument("--directory", default="/var/tmp")
    given = parser.parse_args()
    if os.environ.get("HOSTLER_BENCH_NAMESPACE") is None:
        os.environ["HOSTLER_BENCH_NAMESPACE"] = "1"
        os.execvp(
            "unshare", ["unshare", "--net", sys.executable, "-m", "benchmarks.compression", *sys.argv[1:]]
        )
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    found: dict[str, Any] = {"machine": machine(), "rounds": given.rounds, "alone": {}, "links": {}}
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        for disk in given.disks:
            sample = Path(directory, "sample")
            DISKS[disk](sample, 32 * BLOCK_BYTES)
            found["alone"][disk] = alone(sample)
            sample.unlink()
            print(disk, json.dumps(found["alone"][disk]), flush=True)
            for rate in given.links:
                one = race(Path(directory), disk, rate, given.rounds)
                found["links"][f"{disk} {rate or 'loopback'}"] = one
                said = {
                    name: {key: round(value, 2) for key, value in of.items()}
                    for name, of in one.items()
                    if name in WAYS
                }
                print(
                    f"{disk:7} {rate or 'loopback':9} {LINKS[rate]} MiB load {one['load']:.0f} {json.dumps(said)}",
                    flush=True,
                )
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
