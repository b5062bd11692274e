"""The turns that a worker takes at present: each claims a job, and has the host's lock on its server meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from kazoo.client import KazooState
from kazoo.exceptions import KazooException
from oslo_config import cfg
from oslo_context.context import RequestContext

from hostler.errors import Fenced, Interrupted, ServerUnreachable, SessionLost, Unreachable
from hostler.jobboard import lock
from hostler.jobboard.board import Board
from hostler.jobboard.jobs import Claim
from hostler.jobboard.leg import End
from hostler.jobboard.tether import Tether
from hostler.metrics.meter import Meter

LOG = logging.getLogger(__name__)

#: Pauses before a job is tried again after the database or libvirt was away, in seconds.
BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)

#: How a turn ends beside what :class:`~hostler.jobboard.leg.End` knows.
LOST = "lost"  #: the claim has passed to another session, or this one's is over
PUT_OFF = "put off"  #: it is tried again later

_SESSION: dict[str, Callable[[Tether], None]] = {
    KazooState.SUSPENDED: Tether.suspend,
    KazooState.CONNECTED: Tether.resume,
    KazooState.LOST: Tether.lose,
}


class Legs:
    """The legs of one host. *carry* takes the turn, given claim, tether and the lock's descriptor.

    *wake* is set whenever one has ended.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        host: str,
        board: Board,
        carry: Callable[[Claim, Tether, int], End],
        wake: threading.Event,
        meter: Meter,
    ) -> None:
        self._conf = conf
        self._host = host
        self._board = board
        self._carry = carry
        self._wake = wake
        self._meter = meter
        meter.ends_of_turns(*(end.value for end in End), LOST, PUT_OFF)
        self._tethers: dict[str, Tether] = {}
        self._lock = threading.Lock()
        self._back_off: dict[str, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._tethers)

    def under_way(self) -> set[str]:
        """Return the migrations that are carried at present."""
        with self._lock:
            return set(self._tethers)

    def has_room_for(self, migration: str) -> bool:
        """Tell whether one more may be carried, and it is not yet."""
        with self._lock:
            return migration not in self._tethers and len(self) < self._conf.max_concurrent_migrations

    def paused_s(self, migration: str) -> float:
        """Return after how many seconds it may be tried again; 0 or less: now."""
        _, due = self._back_off.get(migration, (0, 0.0))
        return due - time.monotonic()

    def begin(self, pool: Executor, migration: str) -> None:
        """Take a turn at it in a thread of *pool*."""
        tether = Tether()
        with self._lock:
            self._tethers[migration] = tether
        pool.submit(self._run, migration, tether)

    def cancel(self, wishes: Iterable[str]) -> None:
        """Let those that are carried here notice that an operator wishes them undone."""
        with self._lock:
            for migration in self._tethers.keys() & set(wishes):
                self._tethers[migration].cancel()

    def session_changed(self, state: str) -> None:
        """Let all of them know how it is with ZooKeeper; called from kazoo's thread, it does not wait."""
        with self._lock:
            for tether in self._tethers.values():
                _SESSION[state](tether)

    def end(self, patience_s: float) -> None:
        """Let the steps under way finish, as long as that may take; then interrupt them."""
        with self._lock:
            tethers = list(self._tethers.values())
        for tether in tethers:
            tether.end()
        deadline = time.monotonic() + patience_s
        while self._tethers and (left := deadline - time.monotonic()) > 0:
            self._wake.clear()
            if self._tethers:
                self._wake.wait(left)
        for tether in tethers:
            tether.end(now=True)

    def _run(self, migration: str, tether: Tether) -> None:
        claim: Claim | None = None
        RequestContext(request_id="-")  # the thread's last one was another's; the leg reads whose this is
        try:
            claim = self._board.claim(self._host, migration)
            if claim is None:
                self._ignore_unreadable(migration)
                return
            with lock.held(self._conf.run_path, f"instance-{claim.posting.instance}") as held:
                end = self._carry(claim, tether, held)
            LOG.debug("migration %s: leg ended: %s", migration, end.value)
            self._meter.turn_ended(end.value)
            self._back_off.pop(migration, None)
        except (Unreachable, ServerUnreachable) as error:
            self._try_later(migration, claim, str(error))
        except (Fenced, SessionLost) as error:
            LOG.warning("migration %s: this worker lost it: %s", migration, error)
            self._meter.turn_ended(LOST)
        except Interrupted as error:
            self._meter.turn_ended(End.GIVEN_BACK.value)
            self._give_back(claim, str(error), counts=False)
        except lock.LockHeld as error:
            self._try_later(migration, claim, str(error))
        except KazooException as error:
            reason = str(error) or type(error).__name__
            self._try_later(migration, claim, f"ZooKeeper does not answer: {reason}")
        except Exception as error:
            LOG.exception("migration %s: the leg failed", migration)
            self._try_later(migration, claim, str(error) or type(error).__name__, counts=True)
        finally:
            with self._lock:
                self._tethers.pop(migration, None)
            self._wake.set()

    def _try_later(self, migration: str, claim: Claim | None, reason: str, *, counts: bool = False) -> None:
        times, _ = self._back_off.get(migration, (0, 0.0))
        pause = BACK_OFF_S[min(times, len(BACK_OFF_S) - 1)]
        self._back_off[migration] = (times + 1, time.monotonic() + pause)
        LOG.warning("migration %s: %s; tried again in %.0f s", migration, reason, pause)
        self._meter.turn_ended(PUT_OFF)
        self._give_back(claim, reason, counts=counts)

    def _ignore_unreadable(self, migration: str) -> None:
        """Look at a job that this version cannot read now and then, not all the time."""
        if migration in self._board.jobs(self._host) and self._board.posting(self._host, migration) is None:
            self._try_later(migration, None, "its job was not written by this version of hostler")

    def _give_back(self, claim: Claim | None, reason: str, *, counts: bool) -> None:
        if claim is None:
            return
        LOG.info("migration %s is given back: %s", claim.posting.migration, reason)
        try:
            self._board.abandon(claim, counts=counts)
        except (KazooException, Fenced) as error:
            LOG.warning("migration %s could not be given back: %s", claim.posting.migration, error)
