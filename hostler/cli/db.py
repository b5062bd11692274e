"""``hostler db``: the tables."""

from __future__ import annotations

import argparse

from hostler.cli.base import Command
from hostler.errors import BadConfiguration


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
