"""Real workers for the hosts of a world."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler import conf as settings
from hostler.jobboard.worker import Worker
from lab.process import wait_until
from tests.support.world import World


@contextmanager
def workers(world: World, directory: Path) -> Iterator[None]:
    """Real workers of all hosts, in threads, instead of this test."""
    started: list[tuple[Worker, threading.Thread]] = []
    for host in world.hosts.values():
        world.board.client.delete(world.board.path("workers", host.name))
        conf = settings.load(["/dev/null"])
        conf.set_override("connection", world.conf.database.connection, "database")
        for option in ("hosts", "root"):
            conf.set_override(option, world.conf.zookeeper[option], "zookeeper")
        places = {"state_path": host.state_path, "run_path": str(directory / "run" / host.name)}
        facts = {
            "host": host.name,
            "my_ip": host.address,
            "reserved_host_memory_mb": 0,
            "shutdown_timeout": 1,
        }
        for option, value in (places | facts).items():
            conf.set_override(option, value)
        worker = Worker(conf, world.database, host.drivers)
        thread = threading.Thread(target=worker.run, name=host.name)
        thread.start()
        started.append((worker, thread))
    try:
        wait_until(
            lambda: len(world.board.alive()) == len(world.hosts), "the workers are alive", timeout_s=60
        )
        yield
    finally:
        for worker, thread in started:
            worker.stop()
            thread.join(60)
