"""Measures the control path: migrations whose drivers do nothing, over real boards and real records.

Run as ``python -m benchmarks.control``; starts a ZooKeeper and, if asked, a PostgreSQL of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from oslo_config import cfg

from benchmarks.control import stock
from benchmarks.control.counters import HandOvers, SqlWrites, zookeeper_changes
from benchmarks.control.noop import drivers
from hostler import conf as settings
from hostler import flows
from hostler.jobboard.client import Client
from hostler.jobboard.worker import Worker
from hostler.records.database import Database
from hostler.records.models import Instance, new_uuid
from lab.postgres import PostgreSQL
from lab.process import wait_until
from lab.zookeeper import zookeeper

HOSTS = ("kvm1", "kvm2")
#: Migrations that come before the measured ones: statements are compiled, connections made.
WARM_UP = 3
#: What is aimed at, for a migration and for a hand-over.
AIMS = {"cpu_ms": 100.0, "hand_over_median_ms": 30.0}

ROWS = {
    "cpu_ms": "CPU per migration, posting and both workers (ms)",
    "wall_ms": "time per migration, one after the other (ms)",
    "sql_transactions": "SQL transactions that write, per migration",
    "sql_statements": "SQL statements that write, per migration",
    "zookeeper_writes": "ZooKeeper writes per migration",
    "hand_over_median_ms": "hand-over to first step elsewhere, median (ms)",
    "hand_over_p95_ms": "hand-over to first step elsewhere, p95 (ms)",
    "stock_cpu_ms": "CPU of TaskFlow's own persistence, empty steps (ms)",
    "ratio": "that, as a multiple of ours",
}


def new_conf(host: str, directory: Path, zookeeper_hosts: str, url: str) -> cfg.ConfigOpts:
    """Return the settings of a host."""
    conf = settings.load(["/dev/null"])
    conf.set_override("connection", url, "database")
    conf.set_override("hosts", [zookeeper_hosts], "zookeeper")
    conf.set_override("root", f"/{directory.name}", "zookeeper")
    conf.set_override("host", host)
    conf.set_override("my_ip", "127.0.0.1")
    conf.set_override("state_path", str(directory / host / "state"))
    conf.set_override("run_path", str(directory / host / "run"))
    return conf


@contextmanager
def workers(directory: Path, zookeeper_hosts: str, url: str, database: Database) -> Iterator[Client]:
    """Run both workers in threads; give what asks for migrations."""
    client = Client(new_conf("kvm1", directory, zookeeper_hosts, url))
    running = []
    for host in HOSTS:
        worker = Worker(new_conf(host, directory, zookeeper_hosts, url), database, drivers())
        running.append((worker, threading.Thread(target=worker.run, name=host)))
    for _, thread in running:
        thread.start()
    try:
        wait_until(lambda: len(client.live_workers()) == len(HOSTS), "both workers", 30)
        yield client
    finally:
        for worker, thread in running:
            worker.stop()
            thread.join(30)
        client.close()


def migrate(client: Client, database: Database, hand_overs: HandOvers) -> None:
    """Move a new server, and wait until its job is off the boards."""
    server = new_uuid()
    with database.transaction() as session:
        session.add(
            Instance(
                uuid=server,
                name=server,
                host="kvm1",
                vm_state="active",
                power_state="running",
                vcpus=1,
                memory_mb=128,
            )
        )
    hand_overs.wait_for(client.migrate(server, "kvm2", requested_by="benchmark"))


def measure(directory: Path, zookeeper_hosts: str, url: str, count: int) -> dict[str, float]:
    """Carry out *count* migrations one after the other; return what one of them costs."""
    database, hand_overs = Database(url), HandOvers()
    database.upgrade()
    with hand_overs.measured(), workers(directory, zookeeper_hosts, url, database) as client:
        for _ in range(WARM_UP):
            migrate(client, database, hand_overs)
        hand_overs.seconds.clear()
        writes = SqlWrites(database.engine)
        changes, cpu, wall = zookeeper_changes(zookeeper_hosts), time.process_time(), time.perf_counter()
        for _ in range(count):
            migrate(client, database, hand_overs)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        changes = zookeeper_changes(zookeeper_hosts) - changes
    database.close()
    waits = sorted(hand_overs.seconds)
    return {
        "cpu_ms": cpu / count * 1000,
        "wall_ms": wall / count * 1000,
        "sql_transactions": writes.transactions / count,
        "sql_statements": writes.statements / count,
        "zookeeper_writes": changes / count,
        "hand_over_median_ms": statistics.median(waits) * 1000,
        "hand_over_p95_ms": waits[int(len(waits) * 0.95)] * 1000,
    }


def run(kinds: list[str], count: int) -> dict[str, dict[str, float]]:
    """Measure on each kind of database."""
    found = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostler-control-")))
        zookeeper_hosts = stack.enter_context(zookeeper(directory / "zookeeper"))
        for kind in kinds:
            if kind == "sqlite":
                urls = [f"sqlite:///{directory}/{name}.db" for name in ("hostler", "stock")]
            else:
                server = stack.enter_context(PostgreSQL(directory / "postgresql"))
                urls = [server.create_database(name) for name in ("hostler", "stock")]
            result = measure(directory / kind, zookeeper_hosts, urls[0], count)
            shape = flows.shape_of("cold_migration")
            result["stock_cpu_ms"] = stock.cpu_ms(urls[1], shape, max(3, count // 10))
            result["ratio"] = result["stock_cpu_ms"] / result["cpu_ms"]
            found[kind] = result
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the figures as text, with what is aimed at."""
    width = max(map(len, ROWS.values()))
    lines = [" ".join([" " * width, *(f"{kind:>10}" for kind in found), f"{'aim':>8}"])]
    for key, text in ROWS.items():
        aim = f"{AIMS[key]:8.0f}" if key in AIMS else ""
        lines.append(
            " ".join([f"{text:{width}}", *(f"{one[key]:10.1f}" for one in found.values()), aim]).rstrip()
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--migrations", type=int, default=50, metavar="N")
    parser.add_argument("--json", action="store_true")
    arguments: Any = parser.parse_args()
    logging.disable(logging.WARNING)
    kinds = ["sqlite", "postgresql"] if arguments.database == "both" else [arguments.database]
    found = run(kinds, arguments.migrations)
    print(json.dumps(found, indent=2) if arguments.json else table(found))


if __name__ == "__main__":
    main()
