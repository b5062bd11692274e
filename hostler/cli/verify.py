"""``hostler migration verify``: do the disks hold what left?"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from hostler.cli import watch
from hostler.cli.base import Lister
from hostler.cli.migration import with_migration
from hostler.errors import ImageMismatch

_COLUMNS = ("Disk", "Offset", "Left", "Lies There")


class VerifyMigration(Lister):
    """Let the destination read a migration's disks, where they lie now, and compare them with what left.

    A row for each block that differs, and one for each disk that does not. Exit codes: 0 all is as it left; 4 a
    block differs. Refused (3) before the copy has ended, once the guest has run, and when the migration is over.
    """

    _exit_code = 0

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = with_migration(super().get_parser(prog_name))
        parser.add_argument(
            "--timeout",
            type=watch.seconds,
            default=86400.0,
            metavar="SECONDS",
            help="How long the host may take to read the disks; a day otherwise.",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Return the exit code of what was found."""
        return super().run(parsed_args) or self._exit_code

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        with self.app.client() as client:
            disks = client.verify(parsed_args.migration, timeout_s=parsed_args.timeout)
        rows: list[tuple[Any, ...]] = []
        for disk in disks:
            rows += [(disk.path, block.offset, block.expected, block.actual) for block in disk.differs]
            if not disk.differs:
                rows.append((disk.path, None, "all of it", "as it left"))
        if any(disk.differs for disk in disks):
            self._exit_code = ImageMismatch.exit_code
        return _COLUMNS, rows
