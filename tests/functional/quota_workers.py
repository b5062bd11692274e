"""Workers that reserve, commit and roll back at random, fail at random and are killed at random.

``python -m tests.functional.quota_workers URL`` carries every open migration through; each worker is a process of its
own with several threads, and one that was killed is started again. Prints how often that was.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import select

from hostler.errors import MigrationError, OverQuota
from hostler.jobboard.debts import DebtLeg
from hostler.records import fence, instances, moves, quotas
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.models import Migration
from hostler.records.quotas import Usage
from hostler.tasks.base import MigrationFacts
from hostler.tasks.quotas import ReserveQuota

WORKERS = 4
THREADS = 4
DEATH = 0.02  #: how likely a process is killed at each point
FAILURE = 0.25  #: how likely a migration fails behind its reservation


def main(url: str) -> None:
    """Keep the workers going until nothing is open."""
    logging.disable(logging.WARNING)  # every refusal is one
    children = {_start(url, share, 0): (share, 0) for share in range(WORKERS)}
    killed = 0
    while children:
        child, status = os.wait()
        share, life = children.pop(child)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            killed += 1
            children[_start(url, share, life + 1)] = (share, life + 1)
        elif status:
            raise SystemExit(f"worker {share} ended with {status}")
    print(killed)


def _start(url: str, share: int, life: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        _work(url, share)
        status = 0
    finally:
        os._exit(status)


def _work(url: str, share: int) -> None:
    database = Database(url, connect_timeout_s=60)
    with database.reading() as session:
        rows = list(session.scalars(select(Migration).where(Migration.phase == "open")))
    mine = [row for row in rows if int(row.uuid[:8], 16) % WORKERS == share]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda row: Carrier(database, row).carry(), mine))


class Carrier:
    """Carries one migration from wherever a dead worker left it."""

    def __init__(self, database: Database, row: Migration) -> None:
        self.row = row
        self.delta: dict[str, Any] = row.report or {}
        with database.transaction() as session:
            epoch = fence.current_epoch(session, row.uuid) + 1
            fence.raise_fence(session, row.uuid, epoch)
        self.records = FencedRecords(database, row.uuid, epoch, "kvm2")
        facts = MigrationFacts.of(row)
        self.leg = DebtLeg("kvm2", facts, self.records, None, None, "")  # type: ignore[arg-type]
        self.chance = random.Random(f"{row.uuid} {epoch}")
        self.failing = random.Random(row.uuid).random() < FAILURE

    def carry(self) -> None:
        """Reserve; then hand over and perhaps confirm, or walk back."""
        step = ReserveQuota()
        if self.row.outcome is not None:
            self._close()
            return
        try:
            step.execute(leg=self.leg, quota_delta=self.delta)
            self._may_die()
            if self.failing:
                raise MigrationError("on purpose")
            self._hand_over()
        except (OverQuota, MigrationError) as error:
            step.revert(leg=self.leg, quota_delta=self.delta)
            self._may_die()
            self._end("refused" if isinstance(error, OverQuota) else "reverted")
        self._close()

    def _hand_over(self) -> None:
        with self.records.transaction() as session:
            server = instances.get(session, self.row.instance_uuid)
            after = quotas.of_server(server) + Usage.from_dict(self.delta)
            instances.save(session, server.uuid, vcpus=after.cores, memory_mb=after.ram)
            self._may_die()
            quotas.commit(session, self.row.uuid)
            moves.save(session, self.row.uuid, outcome="success")
            self._may_die()
        self._may_die()

    def _end(self, outcome: str) -> None:
        with self.records.transaction() as session:
            moves.save(session, self.row.uuid, outcome=outcome)
        self._may_die()

    def _close(self) -> None:
        """Close it; every other one that was handed over is confirmed at once."""
        with self.records.transaction() as session:
            if int(self.row.uuid[-1], 16) % 2:
                fence.forget(session, self.row.uuid)
            self._may_die()
            moves.save(session, self.row.uuid, phase="closed")

    def _may_die(self) -> None:
        if self.chance.random() < DEATH:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
