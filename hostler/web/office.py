"""What the pages and the API ask of hostler: each call reads or acts once, in whatever thread it is called."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from hostler.errors import InstanceInvalidState, ServerUnreachable
from hostler.flows import graph
from hostler.jobboard.client import Client
from hostler.records import hosts, moves, plugging
from hostler.records.models import Host, Instance
from hostler.records.plugging import ServerEvent
from hostler.views import listing, snapshot, timeline
from hostler.views.listing import Wanted
from hostler.views.pulse import pulses
from hostler.views.snapshot import Reader, Snapshot
from hostler.views.turns import Turns
from hostler.web import told

#: Parked migrations that the first page shows.
PARKED = 20


class Office:
    """Reads through the views, and acts through the client, as the commands do."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._turns = Turns(client)
        self._connecting = threading.Lock()

    def page(self, wanted: Wanted, limit: int, after: str | None) -> told.ListPage:
        """Return a page of the list."""
        with self.client.database.reading() as session:
            page = listing.page(session, wanted, limit=limit, after=after)
        return told.ListPage([told.listed(line) for line in page.lines], page.following)

    def find(self, name: str) -> told.Shown:
        """Return one migration."""
        with self.client.database.reading() as session:
            seen = snapshot.find(session, name)
        return self.tell(seen)

    def tell(self, seen: Snapshot) -> told.Shown:
        """Return what is told of a snapshot, and what it waits for."""
        with self._connecting:
            waiting = self._turns.of(seen)
        return told.shown(seen, waiting)

    def history(self, name: str) -> told.Timeline:
        """Return what happened to a migration."""
        with self.client.database.reading() as session:
            entries = timeline.of(session, moves.find(session, name))
        return told.Timeline([told.happened(entry) for entry in entries])

    def drawing(self, name: str) -> str:
        """Return a migration's flow as it stands, as SVG."""
        with self.client.database.reading() as session:
            seen = snapshot.find(session, name)
        steps = [view.step for view in seen.steps]
        return graph.draw(
            steps,
            "svg",
            title=seen.flow,
            source=seen.source,
            dest=seen.dest,
            marks=seen.marks(),
            at=seen.at,
        )

    def hosts(self) -> told.HostList:
        """Return all hosts; without ZooKeeper nobody knows whose worker is alive."""
        workers, queue = self._alive()
        servers = select(Instance.host, func.count()).group_by(Instance.host)
        with self.client.database.reading() as session:
            counts = {str(name): int(count) for name, count in session.execute(servers)}
            rows = []
            for host in hosts.all_hosts(session):
                free = hosts.capacity(host) - hosts.used(session, host.name)
                rows.append(_host(host, free, counts.get(host.name, 0), workers, queue))
        return told.HostList(rows)

    def _alive(self) -> tuple[Mapping[str, Any] | None, Mapping[str, Sequence[str]]]:
        try:
            with self._connecting:
                return self.client.live_workers(), self.client.queue()
        except ServerUnreachable:
            return None, {}

    def act(self, verb: str, name: str, *, who: str, reason: str) -> str:
        """Do what an operator asks of a migration; return its uuid. Refused as the command would be."""
        client = self.client
        with self._connecting:
            client.board  # noqa: B018 - connected once, whoever comes first
        if verb in (told.CANCEL, told.RETRY, told.REVERT):
            return str(getattr(client, verb)(name, requested_by=who, reason=reason))
        with client.database.reading() as session:
            row = moves.find(session, name)
            if row.status != "finished":  # a page of yesterday must not confirm the move of today
                allowed = f"the move of {row.instance_name!r} that waits to be confirmed"
                raise InstanceInvalidState(
                    server=row.instance_name, state=row.status, method=verb, allowed=allowed
                )
            server = row.instance_uuid
        if verb == told.CONFIRM:
            return client.confirm(server, requested_by=who)
        return client.revert_resize(server, requested_by=who, reason=reason)

    def tell_plugged(self, events: Sequence[ServerEvent]) -> set[str]:
        """Keep what is said of ports that are waited for; return the servers that are known."""
        with self.client.database.reading() as session:
            known = plugging.known(session, {event.server for event in events})
        concerned = [event for event in events if event.server in known and event.of_plugging]
        if concerned:
            with self.client.database.transaction() as session:
                for event in concerned:
                    plugging.tell(session, event)
        return known


class Watched:
    """One migration under a browser's eyes; what never changes is read once."""

    def __init__(self, office: Office, name: str) -> None:
        self._office = office
        with office.client.database.reading() as session:
            self._reader = Reader(moves.find(session, name).uuid)
        self._pulse: object = None
        self._told: told.Timeline | None = None

    def look(self, *, anyway: bool = False) -> tuple[told.Shown, told.Timeline | None] | None:
        """Return it if anything has changed since the last look, or *anyway*: one statement tells that.

        With it comes what happened so far, if that is not the same as at the last look.
        """
        with self._office.client.database.reading() as session:
            pulse = pulses(session, [self._reader.uuid]).get(self._reader.uuid)
            changed, self._pulse = pulse != self._pulse, pulse
            if not changed and not anyway:
                return None
            seen = self._reader.read(session)
            happened = timeline.of(session, moves.get(session, self._reader.uuid)) if changed else []
        entries = told.Timeline([told.happened(entry) for entry in happened])
        if not changed or entries == self._told:
            return self._office.tell(seen), None
        self._told = entries
        return self._office.tell(seen), entries


def _host(
    host: Host, free: Any, servers: int, workers: Mapping[str, Any] | None, queue: Mapping[str, Sequence[str]]
) -> told.HostShown:
    state = "unknown" if workers is None else "up" if host.name in workers else "down"
    return told.HostShown(
        name=host.name,
        worker=state,
        disabled_reason=host.disabled_reason,
        worker_version=host.worker_version,
        servers=servers,
        queue=None if workers is None else len(queue.get(host.name, ())),
        vcpus_free=free.vcpus,
        memory_free_mb=free.memory_mb,
        disk_free_bytes=free.disk_bytes,
    )
