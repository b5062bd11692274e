"""Measures what ten watchers of all migrations cost those who carry them out, on one machine with them.

Run as ``python -m benchmarks.watchers``; starts a ZooKeeper and a PostgreSQL of its own. Rounds without and with
watchers alternate. Each watcher is a process of its own, as ``hostler migration watch --all --format ndjson`` is; it
goes on when nothing is under way.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.control.__main__ import WARM_UP, migrate, new_conf, workers
from benchmarks.control.counters import HandOvers
from hostler.cli import watch
from hostler.jobboard.client import Client
from hostler.records.database import Database
from lab.postgres import PostgreSQL
from lab.zookeeper import zookeeper

WATCHERS = 10
_READY = "watching\n"


def look_on(directory: Path, zookeeper_hosts: str, url: str) -> None:
    """Watch for ever: what a watcher's process does. Each line that is shown goes nowhere, as into a file."""
    with Client(new_conf("kvm1", directory, zookeeper_hosts, url)) as client:
        bell = client.news_of_all()
        sys.stdout.write(_READY)
        sys.stdout.flush()
        while True:
            watch.follow_all(client, io.StringIO(), fmt="ndjson")
            bell.wait(1.0)


@contextmanager
def watchers(count: int, *words: str) -> Iterator[list[int]]:
    """Run *count* watchers; give their process ids once all of them watch."""
    command = [sys.executable, "-m", "benchmarks.watchers", "--look-on", *words]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        for one in running:
            if one.stdout is None or one.stdout.readline() != _READY:
                raise RuntimeError("a watcher does not watch")
        yield [one.pid for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()


def cpu_s(pids: list[int]) -> float:
    """Return the seconds of CPU that these processes have used."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / ticks


def measure(directory: Path, zookeeper_hosts: str, url: str, rounds: int, count: int) -> None:
    """Print the time per migration, round by round, and the ratio of the medians."""
    database, hand_overs = Database(url), HandOvers()
    database.upgrade()
    took: dict[int, list[float]] = {0: [], WATCHERS: []}
    spent: list[float] = []
    with hand_overs.measured(), workers(directory, zookeeper_hosts, url, database) as client:
        for _ in range(WARM_UP):
            migrate(client, database, hand_overs)
        for _ in range(rounds):
            for many, times in took.items():
                with watchers(many, str(directory), zookeeper_hosts, url) as pids:
                    began, before = time.perf_counter(), cpu_s(pids)
                    for _ in range(count):
                        started = time.perf_counter()
                        migrate(client, database, hand_overs)
                        times.append((time.perf_counter() - started) * 1000)
                    if pids:
                        spent.append((cpu_s(pids) - before) / many / (time.perf_counter() - began))
    database.close()
    medians = {many: statistics.median(times) for many, times in took.items()}
    for many, median in medians.items():
        print(f"{many:>2} watchers: {median:.0f} ms per migration (median of {len(took[many])})")
    print(
        f"ratio {medians[WATCHERS] / medians[0]:.2f}; a watcher uses {statistics.median(spent):.1%} of a core"
    )


def main() -> None:
    """Read the command line; measure, or be one of the watchers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watchers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, metavar="N")
    parser.add_argument("--migrations", type=int, default=20, metavar="N", help="in each round")
    parser.add_argument("--look-on", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.look_on:
        directory, zookeeper_hosts, url = arguments.look_on
        look_on(Path(directory), zookeeper_hosts, url)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostler-watchers-")))
        zookeeper_hosts = stack.enter_context(zookeeper(directory / "zookeeper"))
        url = stack.enter_context(PostgreSQL(directory / "postgresql")).create_database("hostler")
        measure(directory / "hosts", zookeeper_hosts, url, arguments.rounds, arguments.migrations)


if __name__ == "__main__":
    main()
