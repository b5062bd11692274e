"""``hostler db``: the tables."""

from __future__ import annotations

import argparse

from hostler.cli import typed
from hostler.cli.base import Command
from hostler.errors import BadConfiguration
from hostler.records import retention


class UpgradeDatabase(Command):
    """Make the tables, or bring them to this version. Nothing if they are there already."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Upgrade; print the revision."""
        from hostler.records.database import Database

        conf = self.app.conf()
        if not conf.database.connection:
            raise BadConfiguration(
                where="[database]", problem="connection is not set", hint="hostler config sample"
            )
        database = Database(conf.database.connection, conf.database.connect_timeout)
        try:
            self.print(f"the database is at revision {database.upgrade()}")
        finally:
            database.close()


class PurgeDatabase(Command):
    """Forget migrations that are over: their records, steps and history.

    Never one that is unfinished, parked or not confirmed, that some host owes an undo, or of which anything is held
    or set aside.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--before",
            required=True,
            type=typed.moment,
            metavar="TIME",
            help="Those that ended before this time (2026-03-01, or 90d for so long ago).",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say how many.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Forget them, a batch at a time; print how many."""
        with self.app.client() as client:
            if parsed_args.dry_run:
                with client.database.reading() as session:
                    found = retention.count(session, parsed_args.before)
                self.print(f"{found} migrations would be forgotten")
                return
            forgotten = 0
            while True:
                with client.database.transaction() as session:
                    batch = retention.purge(session, parsed_args.before)
                if not batch:
                    break
                forgotten += batch
        self.print(f"{forgotten} migrations were forgotten")
