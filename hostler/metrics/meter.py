"""What a worker counts while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from taskflow import states

from hostler import __version__
from hostler.metrics.catalogue import METRICS, OF_WORKER, STEP_SECONDS

#: In which direction a step that enters a state goes.
_BEGINS = {states.RUNNING: "execute", states.REVERTING: "revert"}
_ENDS = {
    states.SUCCESS: "execute",
    states.FAILURE: "execute",
    states.REVERTED: "revert",
    states.REVERT_FAILURE: "revert",
}
#: How a flow ends: :attr:`hostler.records.models.Migration.outcome`.
OUTCOMES = ("success", "refused", "reverted", "parked")
_FAILED = (states.FAILURE, states.REVERT_FAILURE)

Clock = Callable[[], float]


class Meter:
    """The numbers of one worker, in a registry of its own. Any thread may count."""

    def __init__(self, host: str = "", turns_limit: int = 0, clock: Clock = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._waiting: dict[str, float] = {}  #: migration: since when it has been seen to wait
        made = {metric.name: self._make(metric.name) for metric in OF_WORKER}
        self._ended = made["hostler_migrations_ended"]
        self._steps = made["hostler_step_seconds"]
        self._failures = made["hostler_step_failures"]
        self._turns = made["hostler_turns"]
        self._under_way = made["hostler_turns_under_way"]
        self._queue = made["hostler_queue_jobs"]
        self.sent_bytes = made["hostler_sent_bytes"]
        self.mended_blocks = made["hostler_mended_blocks"]
        self.send_rate = made["hostler_send_rate_bytes_per_second"]
        self.copies = made["hostler_copies"]
        self._dropped = made["hostler_dropped_spans"]
        self.loop_overdue = made["hostler_loop_overdue_seconds"]
        self.connected = made["hostler_zookeeper_connected"]
        made["hostler_worker_info"].labels(host, __version__).set(1)
        made["hostler_turns_limit"].set(turns_limit)
        made["hostler_queue_oldest_seconds"].set_function(self._oldest_s)

    def _make(self, name: str) -> Any:
        metric = METRICS[name]
        if metric.kind == "histogram":
            return Histogram(name, metric.says, metric.labels, buckets=STEP_SECONDS, registry=self.registry)
        kind = {"counter": Counter, "gauge": Gauge}[metric.kind]
        return kind(name, metric.says, metric.labels, registry=self.registry)

    # -- the board ----------------------------------------------------------------------------------------

    def board_seen(self, jobs: Collection[str], under_way: Collection[str]) -> None:
        """Take what lies on the host's board, and which migrations the host works on."""
        at = self._clock()
        self._waiting = {job: self._waiting.get(job, at) for job in jobs if job not in under_way}
        self._queue.set(len(self._waiting))
        self._under_way.set(len(under_way))

    def _oldest_s(self) -> float:
        at = self._clock()
        return at - min(self._waiting.values(), default=at)

    def ends_of_turns(self, *ends: str) -> None:
        """Take how a turn may end: the first of each is a growth only if there was a 0 before."""
        for end in ends:
            self._turns.labels(end)

    def turn_ended(self, end: str) -> None:
        """Count a turn of this host."""
        self._turns.labels(end).inc()

    def spans_dropped(self, why: str, count: int) -> None:
        """Count spans that nobody will see."""
        self._dropped.labels(why).inc(count)

    # -- the flow -----------------------------------------------------------------------------------------

    def flow_may_run(self, flow: str, steps: Iterable[str]) -> None:
        """Take what may be counted of a flow: its first failure is a growth only if there was a 0 before."""
        for outcome in OUTCOMES:
            self._ended.labels(flow, outcome)
        for step in steps:
            for direction in ("execute", "revert"):
                self._failures.labels(flow, step, direction)

    def migration_ended(self, flow: str, outcome: str) -> None:
        """Count a flow that is over, or parked."""
        self._ended.labels(flow, outcome).inc()

    def stopwatch(self, flow: str) -> Callable[[str, Mapping[str, Any]], None]:
        """Return what takes the time of a flow's steps: to be called whenever one of them enters a state."""
        began: dict[str, float] = {}

        def passed(state: str, details: Mapping[str, Any]) -> None:
            step = details["task_name"]
            if state in _BEGINS:
                began[step] = self._clock()
            elif state in _ENDS and step in began:
                self._steps.labels(flow, step, _ENDS[state]).observe(self._clock() - began.pop(step))
                if state in _FAILED:
                    self._failures.labels(flow, step, _ENDS[state]).inc()

        return passed
