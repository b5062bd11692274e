"""What the records say of the whole installation: read when somebody asks, and no more often than is cheap."""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Select, func, literal, null, select, union_all

from hostler.metrics.catalogue import OF_RECORDS
from hostler.records.database import Database
from hostler.records.models import Debt, Instance, Migration, OutboxEntry, now

LOG = logging.getLogger(__name__)

#: Phases of migrations that are not over.
PHASES = ("posting", "open", "parked")
#: How long whoever asks waits for a database that does not answer, in seconds.
PATIENCE_S = 2.0


@dataclass(frozen=True)
class Reading:
    """What the database has said."""

    #: counts by metric and the values of its labels
    counts: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)
    oldest: dict[str, datetime.datetime] = field(default_factory=dict)  #: by phase, UTC without a zone


def read(database: Database) -> Reading:
    """Ask once, in one statement that leaves alone whatever is over.

    :class:`~hostler.errors.ServerUnreachable` if the database does not answer.
    """
    found = Reading()
    with database.reading() as session:
        for metric, one, other, count, since in session.execute(_everything()):
            labels = tuple(str(value) for value in (one, other) if value is not None)
            found.counts[metric, labels] = count
            if since is not None:
                found.oldest[one] = min(since, found.oldest.get(one, since))
    return found


def _everything() -> Select[Any]:
    """Return rows of metric, two labels, count, and since when."""
    count, nothing = func.count(), null()
    open_ones = select(
        literal("hostler_migrations").label("metric"),
        Migration.phase.label("one"),
        Migration.status.label("other"),
        count.label("count"),
        func.min(Migration.created_at).label("since"),
    )
    parts = union_all(
        open_ones.where(Migration.phase.in_(PHASES)).group_by(Migration.phase, Migration.status),
        select(literal("hostler_servers"), Instance.vm_state, nothing, count, nothing).group_by(
            Instance.vm_state
        ),
        select(literal("hostler_debts"), Debt.host, nothing, count, nothing).group_by(Debt.host),
        select(literal("hostler_outbox_messages"), nothing, nothing, count, nothing).select_from(OutboxEntry),
    ).subquery()
    return select(parts)


class Readings(Collector):
    """The metrics of the records. One reading serves whoever asks within *keep_s*, whether it succeeded or not.

    It is made in a thread of its own: a database that hangs holds up nobody for longer than *patience_s*.
    """

    def __init__(
        self,
        database: Database,
        keep_s: float,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._keep_s = keep_s
        self._patience_s = patience_s
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: Reading | None = None
        self._good_until = float("-inf")
        self._under_way: threading.Event | None = None

    def latest(self) -> Reading | None:
        """Return what the database says; None if it does not answer."""
        with self._lock:
            if self._clock() < self._good_until:
                return self._latest
            if (done := self._under_way) is None:
                done = self._under_way = threading.Event()
                threading.Thread(target=self._renew, args=(done,), name="metrics-read", daemon=True).start()
        if not done.wait(self._patience_s):
            return None
        with self._lock:
            return self._latest

    def _renew(self, done: threading.Event) -> None:
        reading = None
        try:
            reading = read(self._database)
        except Exception as error:  # noqa: BLE001 - whatever it is, a scrape answers
            LOG.warning("the metrics of the records are missing: %s", error)
        finally:
            with self._lock:
                self._latest, self._under_way = reading, None
                self._good_until = self._clock() + self._keep_s
            done.set()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics without a reading: nobody asks the database for their names."""
        return self._families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the metrics; without an answer of the database only that there is none."""
        reading, families = self.latest(), self._families()
        up = families.pop("hostler_records_up")
        up.add_metric((), float(reading is not None))
        yield up
        if reading is not None:
            _fill(families, reading)
            yield from families.values()

    @staticmethod
    def _families() -> dict[str, GaugeMetricFamily]:
        return {one.name: GaugeMetricFamily(one.name, one.says, labels=one.labels) for one in OF_RECORDS}


def _fill(families: dict[str, GaugeMetricFamily], reading: Reading) -> None:
    """Put a reading into the metrics; a phase without a migration is 0, so that it can be seen to begin."""
    at = now()
    for (metric, labels), count in reading.counts.items():
        families[metric].add_metric(labels, count)
    for phase in PHASES:
        age = at - reading.oldest.get(phase, at)
        families["hostler_migration_oldest_seconds"].add_metric((phase,), max(age.total_seconds(), 0.0))
