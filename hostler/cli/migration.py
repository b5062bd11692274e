"""``hostler migration``: moves, under way and past."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from hostler import networks
from hostler.cli import drawing, typed, watch
from hostler.cli.base import Command, Lister, ShowOne, UsageError
from hostler.cli.cells import Files, History, Lines, Steps
from hostler.flows import graph
from hostler.records import moves
from hostler.views import listing, snapshot, timeline
from hostler.views.changes import ending
from hostler.views.listing import Line, Wanted
from hostler.views.snapshot import Attempt, Snapshot
from hostler.views.steps import StepView
from hostler.views.text import stamp
from hostler.views.timeline import Entry

_TIME = "at this time (2026-03-01, 2026-03-01T12:30, or 2h, 3d for so long ago)"


class ListMigrations(Lister):
    """List the migrations, the latest first, a page at a time.

    A terminal that is too narrow gets the beginning of each UUID, which every command takes, and fewer columns.
    """

    brief = ("UUID",)
    spare = ("Requested By", "Status", "Flow", "Created At")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--state",
            help="Only those of this status (migrating, finished, confirmed, ...), outcome (success, refused,"
            " reverted, parked) or phase (posting, open, parked, closed).",
        )
        parser.add_argument("--server", help="Only those of this server; its name may be one that is gone.")
        parser.add_argument("--host", help="Only those from or to this host.")
        parser.add_argument(
            "--since", type=typed.moment, metavar="TIME", help=f"Asked for {_TIME}, or later."
        )
        parser.add_argument("--until", type=typed.moment, metavar="TIME", help=f"Asked for before {_TIME}.")
        parser.add_argument("--all", action="store_true", help="Dry runs too.")
        parser.add_argument(
            "--limit",
            type=int,
            default=listing.PAGE,
            help=f"No more than so many; 0 for all. Otherwise {listing.PAGE}.",
        )
        parser.add_argument("--after", metavar="UUID", help="The page that follows this migration's.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        columns = ("UUID", "Server", "From", "To", "Status", "Flow", "Outcome", "Requested By", "Created At")
        with self.app.client() as client, client.database.reading() as session:
            page = listing.page(
                session, _wanted(parsed_args), limit=parsed_args.limit, after=parsed_args.after
            )
        if page.following is not None:
            self.app.stderr.write(
                f"hostler: the latest {parsed_args.limit} of these only; --after {page.following} lists the"
                " next, --limit 0 lists all\n"
            )
        return columns, [_row(line) for line in page.lines]


class ShowMigration(ShowOne):
    """Show one migration: how far it is, what went wrong, and what happened, in order.

    With --debug (before the command) also where in the code each error was raised.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return with_migration(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Return the fields and their values."""
        with self.app.client() as client, client.database.reading() as session:
            migration = moves.find(session, parsed_args.migration)
            seen = snapshot.Reader(migration.uuid).read(session)
            entries = timeline.of(session, migration)
            facts = _facts(seen, snapshot.attempts(session, seen.uuid), entries)
        if self.app.options.debug:
            facts["traces"] = Lines([_trace(entry) for entry in entries if entry.trace is not None])
        return tuple(facts), tuple(facts.values())


class WatchMigration(Command):
    """Follow a migration, or all that are under way, until they end; the exit code tells how.

    Of several it is the worst: 5, 4, 3, 1, 0.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = with_migration(super().get_parser(prog_name), optional=True)
        parser.add_argument(
            "--all", action="store_true", help="All that are under way, or will be meanwhile."
        )
        parser.add_argument(
            "--timeout", type=watch.seconds, metavar="SECONDS", help="Watch no longer than this."
        )
        watch.add_format(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Follow it; return the exit code of its outcome."""
        if (parsed_args.migration is None) != parsed_args.all:
            raise UsageError("either MIGRATION or --all is needed", hint="hostler migration watch --all")
        how = {"fmt": parsed_args.format, "timeout_s": parsed_args.timeout}
        with self.app.client() as client:
            if parsed_args.all:
                return watch.follow_all(client, self.app.stdout, **how)
            with client.database.reading() as session:
                uuid = moves.find(session, parsed_args.migration).uuid
            return watch.follow(client, uuid, self.app.stdout, **how)


class GraphMigration(Command):
    """Draw a migration: its steps on the two hosts, how far they are, what failed and what was undone."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return drawing.add(with_migration(super().get_parser(prog_name)))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print the drawing."""
        with self.app.client() as client, client.database.reading() as session:
            seen = snapshot.find(session, parsed_args.migration)
        title = f"{seen.flow} of {seen.server}: {seen.state}"
        draw = functools.partial(
            graph.draw,
            [view.step for view in seen.steps],
            title=title,
            source=seen.source,
            dest=seen.dest,
            marks=seen.marks(),
            at=seen.finished_at or seen.at,
        )
        drawing.show(self, lambda fmt, width: draw(fmt, width=width), parsed_args)


def with_migration(parser: argparse.ArgumentParser, *, optional: bool = False) -> argparse.ArgumentParser:
    """Let *parser* take a migration, by whatever an operator calls it."""
    parser.add_argument(
        "migration",
        metavar="MIGRATION",
        nargs="?" if optional else None,
        help="UUID, the beginning of one, or the name of a server: its latest migration.",
    )
    return parser


def _wanted(parsed_args: argparse.Namespace) -> Wanted:
    return Wanted(
        state=parsed_args.state,
        server=parsed_args.server,
        host=parsed_args.host,
        since=parsed_args.since,
        until=parsed_args.until,
        dry_runs=parsed_args.all,
    )


def _row(line: Line) -> Sequence[Any]:
    return (
        line.uuid,
        line.instance_name,
        line.source_compute,
        line.dest_compute,
        line.status,
        line.flow_name,
        line.state,
        line.requested_by,
        stamp(line.created_at),
    )


def _facts(seen: Snapshot, attempts: Sequence[Attempt], entries: Sequence[Entry]) -> dict[str, Any]:
    turn = seen.turn
    return {
        "uuid": seen.uuid,
        "server": seen.server,
        "server_uuid": seen.server_uuid,
        "type": seen.migration_type,
        "status": seen.status,
        "phase": seen.phase,
        "outcome": seen.outcome,
        "error": seen.error or (ending(seen)[0] if seen.obstacles else None),
        "hint": (ending(seen)[1] if seen.ended else seen.hint) or None,
        "source": seen.source,
        "dest": seen.dest,
        "network_map": " ".join(networks.pairs(seen.network_map)) or None,
        "attempt": seen.attempt,
        "attempts": Lines([dataclasses.asdict(one) for one in attempts]),
        "flow": seen.flow,
        "current_step": turn.name if turn else None,
        "current_host": turn.host if turn else None,
        "request_id": seen.request_id,
        "requested_by": seen.requested_by,
        "cancel_reason": seen.cancel_reason,
        "rate_bytes_per_s": seen.rate_bytes_per_s,
        "weight": seen.weight,
        "paused_by": seen.paused_by,
        "created_at": stamp(seen.created_at),
        "finished_at": stamp(seen.finished_at),
        "steps": Steps([_step(view, seen) for view in seen.steps]),
        "files": Files([_file(view) for view in seen.files]),
        "history": History([_entry(entry) for entry in entries]),
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


def _entry(entry: Entry) -> dict[str, Any]:
    facts = {"at": stamp(entry.at), "host": entry.host, "kind": entry.kind, "text": entry.text}
    if entry.step is None:
        return facts | {"by_operator": entry.by_operator}
    seconds = None if entry.seconds is None else round(entry.seconds, 1)
    of_step = {"flow": entry.flow, "step": entry.step, "state": entry.state}
    return facts | of_step | {"seconds": seconds, "error": entry.error}


def _trace(entry: Entry) -> dict[str, Any]:
    return {"step": entry.step, "trace": entry.trace}


def _file(view: snapshot.FileView) -> dict[str, Any]:
    return {"path": view.path, "done_bytes": view.done_bytes, "total_bytes": view.total_bytes}
