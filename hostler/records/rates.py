"""How fast images may be sent: budgets of hosts and links, shared by the copies that are under way.

A host's budget counts for what it sends and, by itself, for what it takes; a link's for what one host sends to one
other. Copies share by their weights; what one may not use, since another limit is lower, the others get.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hostler.errors import InstanceInvalidState
from hostler.records import fence, hosts, moves
from hostler.records.models import Host, LinkRate, Migration, Receiver

#: In the place of a value: it stays as it is.
KEEP: Final = -1
HEAVIEST = 100

#: What makes copies share: a host's sending end, its taking end, a link.
Constraint = Hashable


@dataclass(frozen=True)
class Copy:
    """A copy that is under way and not paused."""

    migration: str
    source: str
    dest: str
    weight: int = 1
    rate_bytes_per_s: int | None = None  #: its own limit

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The budgets that it draws on."""
        return (("from", self.source), ("to", self.dest), ("link", self.source, self.dest))


def share(session: Session, migration: str) -> int | None:
    """Return how many bytes a second a copy may send now: None for no limit, 0 while it is paused. It only reads."""
    row = moves.get(session, migration)
    if row.paused_by is not None:
        return 0
    copies = {copy.migration: copy for copy in _under_way(session)}
    copies[migration] = _copy(row)
    return shares(list(copies.values()), _budgets(session))[migration]


def shares(copies: Sequence[Copy], budgets: Mapping[Constraint, int]) -> dict[str, int | None]:
    """Return what each copy may send, bytes a second: the budgets, shared by weight until none has anything left.

    Of all limits the tightest is found, the copies under it get their share of it, and the rest is shared among the
    others, in the same way (max-min fairness).
    """
    found: dict[str, int | None] = {copy.migration: None for copy in copies}
    left: dict[Constraint, float] = dict(budgets)
    open_copies = list(copies)
    while open_copies:
        level, under = _tightest(open_copies, left)
        if level is None:
            return found
        for copy in under:
            given = level * copy.weight
            found[copy.migration] = max(int(given), 1)
            for constraint in copy.constraints:
                if constraint in left:
                    left[constraint] = max(left[constraint] - given, 0.0)
        open_copies = [copy for copy in open_copies if copy not in under]
    return found


def _tightest(copies: Sequence[Copy], left: Mapping[Constraint, float]) -> tuple[float | None, list[Copy]]:
    """Return the lowest rate for each unit of weight that any limit allows, and the copies that it holds."""
    limits: list[tuple[float, list[Copy]]] = [
        (copy.rate_bytes_per_s / copy.weight, [copy]) for copy in copies if copy.rate_bytes_per_s is not None
    ]
    for constraint, budget in left.items():
        under = [copy for copy in copies if constraint in copy.constraints]
        if under:
            limits.append((budget / sum(copy.weight for copy in under), under))
    return min(limits, key=lambda limit: limit[0], default=(None, []))


def _under_way(session: Session) -> list[Copy]:
    sending = select(Migration).join(Receiver, Receiver.migration_uuid == Migration.uuid)
    rows = session.scalars(sending.where(Receiver.sending, Migration.paused_by.is_(None)))
    return [_copy(row) for row in rows]


def _copy(row: Migration) -> Copy:
    return Copy(row.uuid, row.source_compute, row.dest_compute, row.weight, row.rate_bytes_per_s)


def _budgets(session: Session) -> dict[Constraint, int]:
    found: dict[Constraint, int] = {}
    limited = select(Host.name, Host.rate_bytes_per_s).where(Host.rate_bytes_per_s.is_not(None))
    for name, budget in session.execute(limited):
        found["from", name] = found["to", name] = budget or 0
    for link in session.scalars(select(LinkRate)):
        found["link", link.source, link.dest] = link.rate_bytes_per_s
    return found


# -- what an operator sets ----------------------------------------------------------------------------------


def limit_host(session: Session, name: str, rate_bytes_per_s: int | None) -> None:
    """Set what a host may send, and take, in all; None: as much as it can."""
    hosts.get(session, name).rate_bytes_per_s = rate_bytes_per_s


def limit_link(session: Session, source: str, dest: str, rate_bytes_per_s: int | None) -> None:
    """Set what one host may send to one other in all; None: what their own budgets allow."""
    ends = {"source": hosts.get(session, source).name, "dest": hosts.get(session, dest).name}
    session.execute(delete(LinkRate).filter_by(**ends))
    if rate_bytes_per_s is not None:
        session.add(LinkRate(**ends, rate_bytes_per_s=rate_bytes_per_s))


def limit_migration(
    session: Session, name: str, *, who: str, rate_bytes_per_s: int | None = KEEP, weight: int = KEEP
) -> Migration:
    """Set what one migration's copy may send, and how much it counts beside others; return its record."""
    row = _to_be_copied(session, name, "set")
    rate = row.rate_bytes_per_s if rate_bytes_per_s == KEEP else rate_bytes_per_s
    row.rate_bytes_per_s, row.weight = rate, row.weight if weight == KEEP else weight
    limit = "no limit" if rate is None else f"at most {rate} bytes/s"
    fence.add_event(session, row.uuid, "", "rate", f"{who}: {limit}, weight {row.weight}")
    return row


def pause(session: Session, name: str, *, who: str, reason: str) -> Migration:
    """Let a migration's copy send nothing until :func:`resume`; return its record. Nothing if it is paused."""
    row = _to_be_copied(session, name, "pause")
    if row.paused_by is None:
        row.paused_by = who
        fence.add_event(session, row.uuid, "", "paused", f"{who}: {reason}")
    return row


def resume(session: Session, name: str, *, who: str) -> Migration:
    """Let a paused copy go on; return its record. Nothing if it is not paused."""
    row = moves.find(session, name)
    if row.paused_by is not None:
        row.paused_by = None
        fence.add_event(session, row.uuid, "", "resumed", who)
    return row


def _to_be_copied(session: Session, name: str, verb: str) -> Migration:
    row = moves.find(session, name)
    if row.phase not in ("posting", "open", "parked") or row.status == "finished":
        raise InstanceInvalidState(
            f"migration {row.uuid} of {row.instance_name!r} has nothing to copy any more: cannot {verb} it",
            server=row.instance_name,
            state=row.phase,
            method=verb,
            allowed="before the end of its copy",
            hint=f"hostler migration show {row.uuid}",
        )
    return row
