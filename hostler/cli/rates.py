"""``hostler host set`` and ``hostler migration set|pause|resume``: how fast images are sent."""

from __future__ import annotations

import argparse
import getpass

from hostler.cli.base import Command
from hostler.cli.migration import with_migration
from hostler.cli.typed import rate, storable
from hostler.records import rates
from hostler.views.text import command, printable, size

_RATE = "Bytes a second, as in 100M or 1.5G (powers of 1024), or none for no limit."


class SetHost(Command):
    """Limit what a host sends, and what it takes, with all its migrations; copies that run obey within a second."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="Name of the host.")
        parser.add_argument("--rate", required=True, type=rate, help=_RATE)
        parser.add_argument(
            "--to",
            metavar="HOST",
            help="Limit what it sends to this host alone, beside the hosts' own limits.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Set it."""
        with self.app.client() as client, client.database.transaction() as session:
            if parsed_args.to is None:
                rates.limit_host(session, parsed_args.host, parsed_args.rate)
            else:
                rates.limit_link(session, parsed_args.host, parsed_args.to, parsed_args.rate)
        to = "" if parsed_args.to is None else f" to {printable(parsed_args.to)}"
        self.print(f"host {printable(parsed_args.host)} sends{to} {_words(parsed_args.rate)}")


class SetMigration(Command):
    """Limit a migration's copy, or let it count for more than others; a copy that runs obeys within a second."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = with_migration(super().get_parser(prog_name))
        parser.add_argument("--rate", type=rate, default=rates.KEEP, help=_RATE)
        parser.add_argument(
            "--weight",
            type=_weight,
            default=rates.KEEP,
            help="Its part of a budget that it shares, 1 to 100; else 1.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Set what is given."""
        with self.app.client() as client, client.database.transaction() as session:
            row = rates.limit_migration(
                session,
                parsed_args.migration,
                who=getpass.getuser(),
                rate_bytes_per_s=parsed_args.rate,
                weight=parsed_args.weight,
            )
            limit, weight = row.rate_bytes_per_s, row.weight
        self.print(f"migration {row.uuid} sends {_words(limit)}, with weight {weight}")


class PauseMigration(Command):
    """Let a migration's copy stop where it is, until it is resumed. Its server stays off as long as that lasts."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = with_migration(super().get_parser(prog_name))
        parser.add_argument("--reason", required=True, type=storable, help="For the history: why.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Pause it."""
        with self.app.client() as client, client.database.transaction() as session:
            who = getpass.getuser()
            row = rates.pause(session, parsed_args.migration, who=who, reason=parsed_args.reason)
        self.print(
            f"migration {row.uuid} copies nothing\n  until: {command('migration', 'resume', row.uuid)}"
        )


class ResumeMigration(Command):
    """Let a paused copy go on where it stopped. Nothing if it is not paused."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return with_migration(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Resume it."""
        with self.app.client() as client, client.database.transaction() as session:
            row = rates.resume(session, parsed_args.migration, who=getpass.getuser())
        self.print(f"migration {row.uuid} goes on\n  watch it: {command('migration', 'watch', row.uuid)}")


def _weight(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= rates.HEAVIEST:
        raise argparse.ArgumentTypeError(f"a number from 1 to {rates.HEAVIEST} is needed")
    return int(text)


def _words(limit: int | None) -> str:
    return "as fast as it can" if limit is None else f"at most {size(limit)}/s"
