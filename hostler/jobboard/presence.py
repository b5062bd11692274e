"""Which workers are alive: this host's says so, and the others' absence is timed."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from kazoo.exceptions import KazooException, NodeExistsError

from hostler import __version__
from hostler.errors import HostNameTaken
from hostler.jobboard.board import Board

LOG = logging.getLogger(__name__)


class Presence:
    """This worker's announcement, and since when other hosts have had none."""

    def __init__(
        self,
        board: Board,
        host: str,
        *,
        dead_after_s: float,
        session_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._host = host
        self._path = board.path("workers", host)
        self._dead_after_s = dead_after_s
        self._session_timeout_s = session_timeout_s
        self._clock = clock
        self._missing: dict[str, float] = {}  #: host: when it was first seen to have no worker

    def announce(self, stopping: threading.Event) -> None:
        """Say that this worker is alive; wait until an older session of it has ended.

        A session that does not end belongs to another machine of the same name:
        :class:`~hostler.errors.HostNameTaken`.
        """
        facts = {"version": __version__, "pid": os.getpid(), "since": time.time(), "host": self._host}
        deadline = self._clock() + 3 * self._session_timeout_s
        while not stopping.is_set():
            try:
                self._board.client.create(self._path, json.dumps(facts).encode(), ephemeral=True)
                return
            except NodeExistsError:
                if self._is_ours() or not self._wait_until_gone(deadline):
                    return

    def withdraw(self) -> None:
        """Say that it is not any more; the end of the session says so, too."""
        try:
            self._board.client.delete(self._path)
        except KazooException as error:
            LOG.debug("the announcement was not withdrawn, and ends with the session: %s", error)

    def look(self, watch: Callable[[Any], None] | None = None) -> float | None:
        """Look who is alive; return in how many seconds the next host will count as dead, None if none will."""
        alive = self._board.alive(watch)
        now = self._clock()
        self._missing = {
            host: self._missing.get(host, now) for host in self._board.hosts() if host not in alive
        }
        left = [since + self._dead_after_s - now for since in self._missing.values()]
        return min((seconds for seconds in left if seconds > 0), default=None)

    def is_dead(self, host: str) -> bool:
        """Tell whether *host* has had no worker for *dead_host_timeout*."""
        since = self._missing.get(host)
        return since is not None and self._clock() - since >= self._dead_after_s

    def dead(self) -> list[str]:
        """Return the hosts that are dead."""
        return [host for host in self._missing if self.is_dead(host)]

    def _is_ours(self) -> bool:
        stat = self._board.client.exists(self._path)
        session = self._board.client.client_id
        return stat is not None and session is not None and stat.ephemeralOwner == session[0]

    def _wait_until_gone(self, deadline: float) -> bool:
        """Wait for the older session's end; True when it is gone."""
        gone = threading.Event()
        if self._board.client.exists(self._path, watch=lambda _event: gone.set()) is None:
            return True
        LOG.info("waiting for the session of this host's earlier worker to end")
        if not gone.wait(max(0.0, deadline - self._clock())):
            raise HostNameTaken(host=self._host)
        return True
