"""Delivers what lies in the outbox: a thread of each worker, for whichever host the events are.

The events of one migration are delivered one after the other, each at least once: whoever dies between the
delivery and the row's removal leaves it to be delivered again, under the same message id.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from oslo_config import cfg

from hostler.drivers.notifications import Message
from hostler.drivers.notifications.news import News
from hostler.errors import HostlerError, NotificationRefused, ServerUnreachable
from hostler.records import outbox
from hostler.records.database import Database
from hostler.records.models import OutboxEntry, now

LOG = logging.getLogger(__name__)

#: How many events are taken at once.
BATCH = 20
#: How long a batch is this sender's, in seconds; half of it is time to begin another delivery.
LEASE_S = 60.0
#: Seconds between two looks when nobody says that there is something.
LOOK_S = 30.0
#: Seconds that a worker which ends gives to what is still to be delivered.
FLUSH_S = 5.0


class Later(NamedTuple):
    """An event that has to wait."""

    pause_s: float
    tried: bool  #: it was offered, and not taken


class Postman:
    """One a worker; :meth:`at_work` is its life."""

    def __init__(
        self, database: Database, news: News, *, retry_interval_max_s: float = 60.0, keep_s: float = 7 * 86400
    ) -> None:
        self._database = database
        self._news = news
        self._retry_interval_max_s = retry_interval_max_s
        self._keep_s = keep_s
        self._failures: dict[str, int] = {}  #: in a row, by driver
        self._paused: dict[str, float] = {}  #: until when a driver is not tried, by the monotonic clock
        self._stopping = threading.Event()
        self._flush_until = 0.0

    @contextmanager
    def at_work(self, flush_s: float = FLUSH_S) -> Iterator[None]:
        """Deliver in a thread as long as the block runs, and then what *flush_s* allows; the rest waits."""
        thread = threading.Thread(target=self._run, name="postman", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._flush_until = time.monotonic() + flush_s
            self._stopping.set()
            self._news.queued.set()
            thread.join(flush_s + 1)
            if thread.is_alive():
                LOG.warning("an event is still on its way; it will be sent again")
            else:
                self._news.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.queued.clear()
            pause_s = self._look()
            if not self._stopping.is_set():  # else its call to wake may have been cleared away
                self._news.queued.wait(pause_s)
        self._paused.clear()
        while time.monotonic() < self._flush_until and self._look() == 0:
            pass

    def _look(self) -> float:
        """Deliver a batch; return in how many seconds to look again."""
        try:
            if self.deliver():
                return 0
            self._drop_old()
            return self._pause()
        except ServerUnreachable as error:
            LOG.warning("events wait: %s", error)
        except Exception:
            LOG.exception("events wait")
        return LOOK_S

    def deliver(self) -> int:
        """Deliver what is due, up to a batch; return how many events it took up."""
        ready = self._ready()
        with self._database.reading() as session:
            due = outbox.heads(session, ready, BATCH) if ready else []
        if not due:
            return 0
        began = time.monotonic()
        with self._database.transaction() as session:
            taken = outbox.take(session, due, _in(LEASE_S))
        ends = [(entry, self._end_of(entry, began)) for entry in taken]
        with self._database.transaction() as session:
            for entry, end in ends:
                if end is None:
                    outbox.remove(session, entry)
                else:
                    outbox.defer(session, entry, _in(end.pause_s), tried=end.tried)
        return len(taken)

    def _end_of(self, entry: OutboxEntry, began: float) -> Later | None:
        """Deliver one event of a batch that was taken at *began*; None if it needs no further try."""
        if entry.driver in self._paused or time.monotonic() - began > LEASE_S / 2:
            return Later(0.0, tried=False)
        if self._deliver_one(entry):
            return None
        return Later(self._back_off_s(entry.attempts + 1), tried=True)

    def _deliver_one(self, entry: OutboxEntry) -> bool:
        """Tell whether the event needs no further try; a driver that fails is left alone for a while."""
        driver = entry.driver
        try:
            self._news.couriers[driver].deliver(Message.from_dict(entry.message))
        except NotificationRefused as error:
            LOG.error(
                "event %s of migration %s is given up: %s", entry.message_id, entry.migration_uuid, error
            )
        except Exception as error:
            if not isinstance(error, HostlerError):
                LOG.exception("%s cannot deliver event %s", driver, entry.message_id)
            self._failures[driver] = self._failures.get(driver, 0) + 1
            pause_s = self._back_off_s(self._failures[driver])
            self._paused[driver] = time.monotonic() + pause_s
            LOG.warning("events wait: %s; tried again in %.0f s", error, pause_s)
            return False
        self._failures.pop(driver, None)
        return True

    def _ready(self) -> list[str]:
        """Return the drivers that are not paused."""
        at = time.monotonic()
        self._paused = {driver: until for driver, until in self._paused.items() if until > at}
        return [driver for driver in self._news.couriers if driver not in self._paused]

    def _back_off_s(self, times: int) -> float:
        return min(2.0 ** min(times - 1, 30), self._retry_interval_max_s)

    def _pause(self) -> float:
        """Return the seconds until something comes due, or a driver's pause ends."""
        ready = self._ready()
        with self._database.reading() as session:
            at = outbox.soonest(session, ready) if ready else None
        pauses = [LOOK_S, *(until - time.monotonic() for until in self._paused.values())]
        if at is not None:
            pauses.append((at - now()).total_seconds())
        return max(0.1, min(pauses))

    def _drop_old(self) -> None:
        """Give up what nobody took for too long: the outbox must not grow for ever."""
        with self._database.reading() as session:
            old = outbox.older_than(session, _in(-self._keep_s), BATCH)
        if not old:
            return
        for entry in old:
            LOG.error(
                "event %s of migration %s is given up: nobody took it by %s",
                entry.message_id,
                entry.migration_uuid,
                entry.driver,
            )
        with self._database.transaction() as session:
            for entry in old:
                outbox.remove(session, entry)


def at_work(conf: cfg.ConfigOpts, database: Database, news: News) -> AbstractContextManager[None]:
    """Deliver by the settings as long as the block runs; nothing is done where every driver tells at once."""
    if not news.couriers:
        return nullcontext()
    options = conf.notifications
    postman = Postman(
        database,
        news,
        retry_interval_max_s=options.retry_interval_max,
        keep_s=options.keep_hours * 3600,
    )
    return postman.at_work(min(FLUSH_S, conf.graceful_shutdown_timeout))


def _in(seconds: float) -> datetime.datetime:
    return now() + datetime.timedelta(seconds=seconds)
