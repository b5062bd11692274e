"""Every metric there is: its name, its kind, its labels, and what it says.

No label names a server or a migration: a series for each of them would be kept for ever by whoever collects them.
What labels say comes from the code: flows, steps, states, ends.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Upper bounds of the durations of steps, in seconds: from what only writes a record to a copy of a night.
STEP_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


@dataclass(frozen=True)
class Metric:
    """One metric. A counter's samples carry ``_total`` behind the name."""

    name: str
    kind: str  #: ``counter``, ``gauge``, ``histogram``
    says: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which a query finds it."""
        endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        return tuple(self.name + ending for ending in endings[self.kind])


#: Of this worker's process: they begin at 0 with it.
OF_WORKER = (
    Metric("hostler_worker_info", "gauge", "1; which host this is, and its version.", ("host", "version")),
    Metric(
        "hostler_loop_overdue_seconds",
        "gauge",
        "How long the main loop is late with its next round; 0 while it is on time.",
    ),
    Metric(
        "hostler_zookeeper_connected", "gauge", "1 while ZooKeeper answers this worker and it is announced."
    ),
    Metric(
        "hostler_migrations_ended",
        "counter",
        "Flows whose last turn was here, by how they ended: success, refused, reverted, parked.",
        ("flow", "outcome"),
    ),
    Metric(
        "hostler_step_seconds",
        "histogram",
        "Steps that ended here, well or not, and how long they took; an interrupted one does not count.",
        ("flow", "step", "direction"),
    ),
    Metric(
        "hostler_step_failures",
        "counter",
        "Steps, or undos of steps, that failed.",
        ("flow", "step", "direction"),
    ),
    Metric(
        "hostler_turns",
        "counter",
        "Turns of this host that ended. handed over: the baton went to another host; lost: the claim had passed to"
        " another session; put off: a server or a lock was not to be had, or the leg failed.",
        ("end",),
    ),
    Metric("hostler_turns_under_way", "gauge", "Migrations that this host works on."),
    Metric("hostler_turns_limit", "gauge", "How many it may work on at once: max_concurrent_migrations."),
    Metric("hostler_queue_jobs", "gauge", "Migrations whose turn is this host's and that wait for it."),
    Metric(
        "hostler_queue_oldest_seconds",
        "gauge",
        "How long the first of them has waited, as far as this worker has seen it; 0 while none does.",
    ),
    Metric("hostler_sent_bytes", "counter", "Bytes of images that this host has put on the wire."),
    Metric(
        "hostler_mended_blocks",
        "counter",
        "Blocks that a destination's disk did not hold as they had left here, and that were sent again.",
    ),
    Metric("hostler_send_rate_bytes_per_second", "gauge", "How fast the copies under way here send, in all."),
    Metric("hostler_copies", "gauge", "Copies under way from this host."),
    Metric(
        "hostler_dropped_spans",
        "counter",
        "Spans of traces that the collector did not take, or for which the queue had no room.",
        ("reason",),
    ),
)

#: Of the whole installation, from its records: every worker says the same, and one that lives is enough.
OF_RECORDS = (
    Metric("hostler_records_up", "gauge", "1 if the database has answered the last time that it was asked."),
    Metric(
        "hostler_migrations",
        "gauge",
        "Migrations that are not over, by phase (posting, open, parked) and Nova's status.",
        ("phase", "status"),
    ),
    Metric(
        "hostler_migration_oldest_seconds",
        "gauge",
        "How long ago the oldest of them was asked for; 0 where there is none.",
        ("phase",),
    ),
    Metric(
        "hostler_servers", "gauge", "Servers on record; resized is what waits to be confirmed.", ("vm_state",)
    ),
    Metric("hostler_debts", "gauge", "Undos that a host owes, since it was away.", ("host",)),
    Metric("hostler_outbox_messages", "gauge", "Events that no listener has taken yet."),
)

METRICS = {metric.name: metric for metric in (*OF_WORKER, *OF_RECORDS)}
