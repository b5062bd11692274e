"""``hostler migration``: moves, under way and past."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from hostler.cli import watch
from hostler.cli.base import Command, Lines, Lister, ShowOne
from hostler.flows import graph
from hostler.records import hosts, instances, moves
from hostler.records.models import Migration
from hostler.views import snapshot
from hostler.views.snapshot import Attempt, EventView, Snapshot, StepView
from hostler.views.text import stamp

_LIMIT = 200


class ListMigrations(Lister):
    """List the migrations, the latest first."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--state",
            help="Only those of this status (migrating, finished, confirmed, ...), outcome (success, refused,"
            " reverted, parked) or phase (posting, open, parked, closed).",
        )
        parser.add_argument("--server", help="Only those of this server.")
        parser.add_argument("--host", help="Only those from or to this host.")
        parser.add_argument("--all", action="store_true", help="Dry runs too.")
        parser.add_argument(
            "--limit", type=int, default=_LIMIT, help=f"No more than so many; 0 for all. Otherwise {_LIMIT}."
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        columns = ("UUID", "Server", "From", "To", "Status", "Flow", "Outcome", "Requested By", "Created At")
        with self.app.client() as client, client.database.reading() as session:
            rows = [_row(migration) for migration in session.scalars(_selected(session, parsed_args))]
        if parsed_args.limit and len(rows) == parsed_args.limit:
            self.app.stderr.write(f"hostler: the latest {parsed_args.limit} only; --limit 0 lists all\n")
        return columns, rows


class ShowMigration(ShowOne):
    """Show one migration: how far it is, what went wrong, and its history."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return with_migration(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Return the fields and their values."""
        with self.app.client() as client, client.database.reading() as session:
            seen = snapshot.find(session, parsed_args.migration)
            facts = _facts(seen, snapshot.attempts(session, seen.uuid))
        return tuple(facts), tuple(facts.values())


class WatchMigration(Command):
    """Follow a migration until it ends; the exit code tells how it ended."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = with_migration(super().get_parser(prog_name))
        parser.add_argument(
            "--timeout", type=watch.seconds, metavar="SECONDS", help="Watch no longer than this."
        )
        watch.add_format(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Follow it; return the exit code of its outcome."""
        with self.app.client() as client:
            with client.database.reading() as session:
                uuid = moves.find(session, parsed_args.migration).uuid
            return watch.follow(
                client, uuid, self.app.stdout, fmt=parsed_args.format, timeout_s=parsed_args.timeout
            )


class GraphMigration(Command):
    """Draw a migration: its steps on the two hosts, how far they are, what failed and what was undone."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = with_migration(super().get_parser(prog_name))
        parser.add_argument("--format", choices=graph.FORMATS, default="svg", help="Otherwise svg.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print the drawing."""
        with self.app.client() as client, client.database.reading() as session:
            seen = snapshot.find(session, parsed_args.migration)
        title = f"{seen.flow} of {seen.server}: {seen.state}"
        self.print(
            graph.draw(
                [view.step for view in seen.steps],
                parsed_args.format,
                title=title,
                source=seen.source,
                dest=seen.dest,
                marks=seen.marks(),
            ).rstrip("\n")
        )


def with_migration(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let *parser* take a migration, by whatever an operator calls it."""
    parser.add_argument(
        "migration",
        metavar="MIGRATION",
        help="UUID, the beginning of one, or the name of a server: its latest migration.",
    )
    return parser


def _selected(session: Session, parsed_args: argparse.Namespace) -> Select[Any]:
    statement = select(Migration).order_by(Migration.created_at.desc(), Migration.uuid)
    if not parsed_args.all:
        statement = statement.where(Migration.migration_type != "dry-run")
    if wanted := parsed_args.state:
        statement = statement.where(
            or_(Migration.status == wanted, Migration.outcome == wanted, Migration.phase == wanted)
        )
    if parsed_args.server is not None:
        statement = statement.where(
            Migration.instance_uuid == instances.find(session, parsed_args.server).uuid
        )
    if parsed_args.host is not None:
        name = hosts.get(session, parsed_args.host).name
        statement = statement.where(or_(Migration.source_compute == name, Migration.dest_compute == name))
    return statement.limit(parsed_args.limit) if parsed_args.limit > 0 else statement


def _row(migration: Migration) -> Sequence[Any]:
    return (
        migration.uuid,
        migration.instance_name,
        migration.source_compute,
        migration.dest_compute,
        migration.status,
        migration.flow_name,
        migration.outcome or migration.phase,
        migration.requested_by,
        stamp(migration.created_at),
    )


def _facts(seen: Snapshot, attempts: Sequence[Attempt]) -> dict[str, Any]:
    turn = seen.turn
    return {
        "uuid": seen.uuid,
        "server": seen.server,
        "server_uuid": seen.server_uuid,
        "type": seen.migration_type,
        "status": seen.status,
        "phase": seen.phase,
        "outcome": seen.outcome,
        "error": seen.error,
        "hint": seen.hint,
        "source": seen.source,
        "dest": seen.dest,
        "attempt": seen.attempt,
        "attempts": Lines([dataclasses.asdict(one) for one in attempts]),
        "flow": seen.flow,
        "current_step": turn.name if turn else None,
        "current_host": turn.host if turn else None,
        "requested_by": seen.requested_by,
        "cancel_reason": seen.cancel_reason,
        "rate_bytes_per_s": seen.rate_bytes_per_s,
        "weight": seen.weight,
        "paused_by": seen.paused_by,
        "created_at": stamp(seen.created_at),
        "finished_at": stamp(seen.finished_at),
        "steps": Lines([_step(view, seen) for view in seen.steps]),
        "files": Lines([_file(view) for view in seen.files]),
        "history": Lines([_event(event) for event in seen.events]),
        "report": seen.report,
    }


def _step(view: StepView, seen: Snapshot) -> dict[str, Any]:
    spent = view.mark.duration_s(seen.at)
    return {
        "number": view.number,
        "host": view.host,
        "name": view.name,
        "state": view.state,
        "seconds": None if spent is None else round(spent, 1),
        "error": view.mark.undo_error or view.mark.error,
    }


def _event(event: EventView) -> dict[str, Any]:
    return {"at": stamp(event.at), "host": event.host, "kind": event.kind, "text": event.text}


def _file(view: snapshot.FileView) -> dict[str, Any]:
    return {"path": view.path, "done_bytes": view.done_bytes, "total_bytes": view.total_bytes}
