"""The records, compared with themselves: what migrations that are over still hold."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator

from hostler.jobboard.doctor import findings
from hostler.jobboard.doctor.findings import Facts, Finding, Severity, fixable
from hostler.jobboard.doctor.recorded import Recorded, Standing, whose


def examine(recorded: Recorded, alive: Collection[str]) -> Iterator[Finding]:
    """Give everything in the records that nobody needs, or that waits. *alive*: hosts with a worker."""
    yield from _claims(recorded)
    yield from _reservations(recorded)
    yield from _bindings(recorded)
    yield from _receivers(recorded)
    yield from _journals(recorded)
    yield from _debts(recorded, alive)
    yield from _servers(recorded)
    yield from _parked(recorded)


def _claims(recorded: Recorded) -> Iterator[Finding]:
    for claim in recorded.claims:
        fate = recorded.fate(claim.migration_uuid)
        waits = fate.standing is Standing.UNCONFIRMED and claim.host == fate.source
        if waits or fate.standing is Standing.UNDER_WAY or recorded.owed(claim.migration_uuid):
            continue
        yield fixable(
            kind="claim",
            host=claim.host,
            object=claim.migration_uuid,
            text=f"{claim.vcpus} vCPUs and {claim.memory_mb} MiB are held for {whose(fate)}",
            migration=fate.uuid,
            instance=fate.instance,
        )


def _reservations(recorded: Recorded) -> Iterator[Finding]:
    needed = (Standing.UNDER_WAY, Standing.UNCONFIRMED)
    for row in recorded.reservations:
        fate = recorded.fate(row.migration_uuid)
        if fate.standing not in needed and not recorded.owed(row.migration_uuid):
            yield fixable(
                kind="reservation",
                host="",
                object=row.migration_uuid,
                text=f"part of the quota of project {row.project_id} is reserved for {whose(fate)}",
                migration=row.migration_uuid,
                instance=fate.instance,
            )


def _bindings(recorded: Recorded) -> Iterator[Finding]:
    """Give the servers with a port bound for a migration that is over, or to a host that they have left."""
    waiting = recorded.busy() | set(recorded.unconfirmed())
    told: set[str] = set()
    for row in recorded.bindings:
        server = recorded.servers.get(row.instance_uuid)
        settled = server is not None and (server.host, None) == (row.host, row.migration_uuid) and row.active
        if settled or row.instance_uuid in waiting | told:
            continue
        told.add(row.instance_uuid)
        whose = f"server {server.name}" if server else "a server without a record"
        yield fixable(
            kind="binding",
            host=row.host,
            object=row.instance_uuid,
            text=f"port {row.port} of {whose} is still bound as a migration has bound it, to {row.network}",
            instance=row.instance_uuid,
            migration=row.migration_uuid or "",
        )


def _receivers(recorded: Recorded) -> Iterator[Finding]:
    for row in recorded.receivers:
        fate = recorded.fate(row.migration_uuid)
        if fate.standing is not Standing.UNDER_WAY and not recorded.owed(row.migration_uuid):
            yield fixable(
                kind="receiver-record",
                host=row.host,
                object=row.migration_uuid,
                text=f"the address and key of a receiver are on record for {whose(fate)}",
                migration=fate.uuid,
                instance=fate.instance,
            )


def _journals(recorded: Recorded) -> Iterator[Finding]:
    needed = (Standing.UNDER_WAY, Standing.UNCONFIRMED)
    for migration in recorded.journals:
        fate = recorded.fate(migration)
        if fate.standing not in needed and not recorded.owed(migration):
            yield fixable(
                kind="journal",
                host="",
                object=migration,
                text=f"what was written ahead is still there for {whose(fate)}",
                severity=Severity.INFO,
                migration=migration,
                instance=fate.instance,
            )


def _debts(recorded: Recorded, alive: Collection[str]) -> Iterator[Finding]:
    for (host, migration), steps in recorded.debts.items():
        works = host in alive
        yield Finding(
            kind="debt",
            host=host,
            object=migration,
            text=f"{host} owes the undo of {', '.join(steps)} to {whose(recorded.fate(migration))}"
            + ("" if works else "; it undoes that when its worker is back"),
            command=findings.worker_log(host) if works else findings.start_worker(host),
            severity=Severity.WARNING if works else Severity.INFO,
            migration=migration,
            instance=recorded.fate(migration).instance,
        )


def _servers(recorded: Recorded) -> Iterator[Finding]:
    busy = recorded.busy()
    for uuid, server in recorded.servers.items():
        facts: Facts = {"object": uuid, "instance": uuid}
        if server.host not in recorded.hosts:
            yield Finding(
                kind="unknown-host",
                host=server.host,
                text=f"server {server.name} is on record as {server.host}'s, and there is no record of that host",
                command=findings.start_worker(server.host),
                severity=Severity.ERROR,
                **facts,
            )
        if server.task_state is not None and uuid not in busy:
            yield fixable(
                kind="task-state",
                host=server.host,
                text=f"server {server.name} is in task state {server.task_state}, and no migration works on it",
                **facts,
            )


def _parked(recorded: Recorded) -> Iterator[Finding]:
    for fate in recorded.migrations.values():
        if fate.phase == "parked":
            yield Finding(
                kind="parked",
                host="",
                object=fate.uuid,
                text=f"{whose(fate)} was parked: {fate.error or 'no reason is on record'}",
                command=fate.hint or shlex.join(["hostler", "migration", "show", fate.uuid]),
                migration=fate.uuid,
                instance=fate.instance,
            )
