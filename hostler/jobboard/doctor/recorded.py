"""What the records say, as one look at them."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from hostler.objects import Inventory
from hostler.records import instances
from hostler.records.database import Database
from hostler.records.models import (
    AtomRow,
    Binding,
    Claim,
    Debt,
    FlowRow,
    Host,
    Instance,
    JournalEntry,
    Migration,
    Receiver,
    Reservation,
    now,
)

#: Of how many of a host's latest migrations the doctor looks up where they have been.
LATEST = 200


class Standing(enum.StrEnum):
    """Where a migration stands, as far as what it has left behind is concerned."""

    UNDER_WAY = "under way"
    UNCONFIRMED = "not confirmed yet"
    CONFIRMED = "confirmed"
    UNDONE = "undone"
    UNKNOWN = "unknown"

    @property
    def over(self) -> bool:
        """Whether nothing of it is needed any more."""
        return self in (Standing.CONFIRMED, Standing.UNDONE)


@dataclass(frozen=True)
class Fate:
    """A migration."""

    uuid: str
    standing: Standing
    instance: str = ""
    name: str = ""
    source: str = ""
    dest: str = ""
    phase: str = ""
    flow_uuid: str = ""
    error: str | None = None
    hint: str | None = None
    updated_at: datetime.datetime | None = None
    dry_run: bool = False


@dataclass
class Recorded:
    """Everything that the comparisons need."""

    hosts: list[str] = field(default_factory=list)
    migrations: dict[str, Fate] = field(default_factory=dict)
    servers: dict[str, Instance] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    reservations: list[Reservation] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    receivers: list[Receiver] = field(default_factory=list)
    journals: list[str] = field(default_factory=list)  #: migrations with rows
    debts: dict[tuple[str, str], list[str]] = field(default_factory=dict)  #: (host, migration): steps

    def fate(self, migration: str) -> Fate:
        """Return what became of a migration."""
        return self.migrations.get(migration) or Fate(migration, Standing.UNKNOWN)

    def standing(self, migration: str) -> Standing:
        """Return where a migration stands."""
        return self.fate(migration).standing

    def owed(self, migration: str) -> bool:
        """Tell whether any host still owes an undo of it."""
        return any(owed == migration for _, owed in self.debts)

    def busy(self) -> set[str]:
        """Return the servers that a migration works on, or that a dead host still has to let go of."""
        return {
            one.instance
            for one in self.migrations.values()
            if (one.standing is Standing.UNDER_WAY and not one.dry_run) or self.owed(one.uuid)
        }

    def unconfirmed(self) -> dict[str, Fate]:
        """Return the migrations that wait to be confirmed, by their servers."""
        waiting = (one for one in self.migrations.values() if one.standing is Standing.UNCONFIRMED)
        return {one.instance: one for one in waiting}

    def was_busy(self, earlier: Recorded) -> Recorded:
        """Take every migration that was under way or owed at an *earlier* look as if it still were."""
        for uuid, before in earlier.migrations.items():
            if before.standing is Standing.UNDER_WAY and self.standing(uuid) is not Standing.UNDER_WAY:
                self.migrations[uuid] = dataclasses.replace(before, phase="")
        self.debts = earlier.debts | self.debts
        return self


def whose(fate: Fate) -> str:
    """Return a migration as an operator knows it, and where it stands."""
    if fate.standing is Standing.UNKNOWN:
        return f"migration {fate.uuid}, which the records do not know"
    return f"{fate.name}'s migration {fate.uuid} ({fate.standing})"


def read(database: Database) -> Recorded:
    """Look at the records."""
    with database.reading() as session:
        return Recorded(
            hosts=sorted(session.scalars(select(Host.name))),
            migrations={fate.uuid: fate for fate in _fates(session)},
            servers={row.uuid: row for row in session.scalars(select(Instance))},
            claims=list(session.scalars(select(Claim))),
            reservations=list(session.scalars(select(Reservation))),
            bindings=list(session.scalars(select(Binding))),
            receivers=list(session.scalars(select(Receiver))),
            journals=sorted(session.scalars(select(JournalEntry.migration_uuid).distinct())),
            debts=_debts(session),
        )


def standing_of(session: Session, migration: str, *, hold: bool = False) -> Standing:
    """Look again where one migration stands; *hold* on to its record until the transaction ends.

    One of which a host still owes an undo counts as under way.
    """
    row = session.get(Migration, migration, with_for_update=hold, populate_existing=True)
    if row is None:
        return Standing.UNKNOWN
    if session.scalar(select(Debt.task).where(Debt.migration_uuid == migration).limit(1)) is not None:
        return Standing.UNDER_WAY
    return _standing(row.phase, row.status)


def places(database: Database, host: str) -> list[str]:
    """Return the directories in which the latest migrations of *host* had their files."""
    ends = (Migration.source_compute == host) | (Migration.dest_compute == host)
    latest = (
        select(AtomRow.results)
        .join(FlowRow, FlowRow.uuid == AtomRow.flow_uuid)
        .join(Migration, Migration.uuid == FlowRow.migration_uuid)
        .where(ends, AtomRow.name == "InspectInstance")
        .order_by(Migration.created_at.desc())
        .limit(LATEST)
    )
    found: dict[str, None] = {}
    with database.reading() as session:
        for inventory in session.scalars(latest):
            found.update(dict.fromkeys(_directories(inventory)))
    return list(found)


def _directories(inventory: object) -> Iterable[str]:
    try:
        units = Inventory.from_dict(inventory).units  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError):  # another version's, or of a step that failed
        return []
    return [unit.path.rpartition("/")[0] for unit in units if unit.block is None]


def _fates(session: Session) -> Iterable[Fate]:
    row = Migration
    columns = (row.uuid, row.instance_uuid, row.instance_name, row.source_compute, row.dest_compute)
    columns += (row.phase, row.status, row.flow_uuid, row.error, row.hint, row.updated_at)  # type: ignore[assignment]
    for found in session.execute(select(*columns, row.migration_type)):
        yield Fate(
            uuid=found.uuid,
            standing=_standing(found.phase, found.status),
            instance=found.instance_uuid,
            name=found.instance_name,
            source=found.source_compute,
            dest=found.dest_compute,
            phase=found.phase,
            flow_uuid=found.flow_uuid,
            error=found.error,
            hint=found.hint,
            updated_at=found.updated_at or now(),
            dry_run=found.migration_type == "dry-run",
        )


def _standing(phase: str, status: str) -> Standing:
    if phase in instances.UNDER_WAY:
        return Standing.UNDER_WAY
    if status in ("finished", "confirming"):
        return Standing.UNCONFIRMED
    return Standing.CONFIRMED if status == "confirmed" else Standing.UNDONE


def _debts(session: Session) -> dict[tuple[str, str], list[str]]:
    owed: dict[tuple[str, str], list[str]] = {}
    for debt in session.scalars(select(Debt).order_by(Debt.position)):
        owed.setdefault((debt.host, debt.migration_uuid), []).append(debt.task)
    return owed
