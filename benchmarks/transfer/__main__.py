"""How fast a disk goes from one host's files to another's, beside what else could carry it.

Both ends are on this machine; what is compared shares its disk and its processors. In each round every way is taken
once, one after the other; ratios are those of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.transfer import data, figures, peers
from benchmarks.transfer.ours import Order

CEILING = "cp and fsync"
#: What is aimed at: a figure, and whether it is to be at most or at least that.
AIMS = {
    "plain_to_ceiling": ("<=", 1.1),
    "encrypted_to_ceiling": ("<=", 1.25),
    "cpu_s_per_gib": ("<=", 3.0),
    "scp_rsync_to_encrypted a": (">=", 2.5),
    "scp_rsync_to_encrypted c": (">=", 20.0),
    "nbdcopy_ssh_to_encrypted": (">=", 1.0),
    "resume_twice_share": ("<=", 0.02),
    "delta_share": ("<=", 0.015),
    "rate_error": ("<=", 0.05),
    "verify_read_ratio": ("<=", 1.1),
    "memory_mib": ("<=", 150),
    "base_crossings": ("<=", 1.0),
}


class Race:
    """One disk, and how long each way took to carry it."""

    def __init__(self, name: str, directory: Path, ssh: peers.Ssh, scale: float) -> None:
        self.source, self._dest = directory / name, directory / "dest"
        data.make(name, self.source, scale)
        self.gib = data.allocated(self.source) / data.GIB
        self.walls: dict[str, list[float]] = {}
        self.cpus: list[float] = []
        self._ours = directory / "ours"
        self._ways: dict[str, Callable[[], float]] = {
            CEILING: self._timed(peers.cp),
            "hostler, plain": lambda: self._own(encrypt=False)["wall_s"],
            "hostler": self._encrypted,
            "scp": self._timed(ssh.scp),
            "rsync -S": self._timed(ssh.rsync),
            "nbdcopy x4, plain": self._timed(peers.nbdcopy),
            "nbdcopy through ssh": self._timed(ssh.nbdcopy),
        }

    def round(self) -> None:
        """Take each way once."""
        for way, carry in self._ways.items():
            self.walls.setdefault(way, []).append(carry())
            self._dest.unlink()

    def medians(self) -> dict[str, float]:
        """Return the seconds of each way."""
        return {way: statistics.median(walls) for way, walls in self.walls.items()}

    def ratios(self) -> dict[str, float]:
        """Return what is compared."""
        walls = self.medians()
        return {
            "plain_to_ceiling": walls["hostler, plain"] / walls[CEILING],
            "encrypted_to_ceiling": walls["hostler"] / walls[CEILING],
            "cpu_s_per_gib": statistics.median(self.cpus) / self.gib,
            "scp_rsync_to_encrypted": min(walls["scp"], walls["rsync -S"]) / walls["hostler"],
            "nbdcopy_ssh_to_encrypted": walls["nbdcopy through ssh"] / walls["hostler"],
        }

    def _timed(self, send: peers.Send) -> Callable[[], float]:
        def carry() -> float:
            began = time.monotonic()
            send(self.source, self._dest)
            return time.monotonic() - began

        return carry

    def _own(self, *, encrypt: bool) -> dict[str, Any]:
        found = Order(str(self._ours), str(self.source), str(self._dest), encrypt).run()
        shutil.rmtree(self._ours)
        return found

    def _encrypted(self) -> float:
        found = self._own(encrypt=True)
        self.cpus.append(found["cpu_s"])
        return float(found["wall_s"])


def measure(directory: Path, names: list[str], rounds: int, scale: float) -> dict[str, Any]:
    """Return all figures: of each disk, and those beside speed."""
    found: dict[str, Any] = {"machine": machine(), "rounds": rounds, "scale": scale, "disks": {}}
    with peers.ssh(directory / "ssh") as ssh:
        races = {name: Race(name, directory, ssh, scale) for name in names if name in data.DISKS}
        for number in range(rounds):
            for name, race in races.items():
                print(f"round {number + 1} of {rounds}: {data.SAID[name]}", file=sys.stderr)
                race.round()
        for name, race in races.items():
            found["disks"][name] = {"seconds": race.medians(), "ratios": race.ratios(), "all": race.walls}
    if {"a", "c"} <= set(names):
        print("resume, delta, rate, verification, memory", file=sys.stderr)
        found["figures"] = figures.all_of(directory, directory / "a", directory / "c")
    if "d" in names:
        print("ten overlays on one base", file=sys.stderr)
        found["figures"] = found.get("figures", {}) | bases_of(directory / "bases", scale)
    return found


def bases_of(directory: Path, scale: float) -> dict[str, float]:
    """Return the figures of (d)."""
    from hostler.drivers.images import tls

    tls.prepare_environment(directory / "run")
    from benchmarks.transfer import bases  # GnuTLS reads its settings when it is loaded

    return bases.measure(directory, scale)


def machine() -> dict[str, Any]:
    """Return what the figures hang on."""
    info = Path("/proc/cpuinfo").read_text()
    cpu = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "")
    load = os.getloadavg()[0]
    return {"cpu": cpu, "cpus": os.cpu_count(), "kernel": platform.release(), "load_before": load}


def verdicts(found: dict[str, Any]) -> list[tuple[str, float, str, float, bool]]:
    """Return each figure with its aim, and whether it reaches that."""
    figures_by_name = {
        f"{key} {disk}": value for disk, one in found["disks"].items() for key, value in one["ratios"].items()
    } | found.get("figures", {})
    rows = []
    for name, value in figures_by_name.items():
        sign, aim = AIMS.get(name) or AIMS.get(name.rpartition(" ")[0]) or ("", 0.0)
        if sign:
            rows.append((name, value, sign, aim, value <= aim if sign == "<=" else value >= aim))
    return rows


def table(found: dict[str, Any]) -> str:
    """Return it as text."""
    lines = []
    for disk, one in found["disks"].items():
        lines.append(f"({disk}) {data.SAID[disk]}")
        ceiling = one["seconds"][CEILING]
        lines += [f"    {way:24} {s:7.2f} s {s / ceiling:7.2f}" for way, s in one["seconds"].items()]
    for name, value, sign, aim, reached in verdicts(found):
        lines.append(f"{name:32} {value:9.3f}  {sign} {aim:<6}  {'yes' if reached else 'NO'}")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--disks", default="abcd", help="Which of the disks; otherwise all: abcd.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--scale", type=float, default=1.0, help="Make all disks that much smaller: 0.1.")
    parser.add_argument("--directory", default="/var/tmp", help="Where there is room for ten GiB.")
    parser.add_argument("--json", metavar="FILE", help="Write all figures there, too.")
    arguments = parser.parse_args()
    if wanting := peers.missing():
        parser.exit(2, f"the peers are not installed; run: apt install {' '.join(wanting)}\n")
    with tempfile.TemporaryDirectory(prefix="hostler-transfer-", dir=arguments.directory) as directory:
        found = measure(Path(directory), list(arguments.disks), arguments.rounds, arguments.scale)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
