"""``hostler migration cancel|retry|revert|skip|recover``: a migration must not go on as it is."""

from __future__ import annotations

import abc
import argparse
import getpass
from typing import Any

from hostler.cli import waiting
from hostler.cli.base import Command
from hostler.cli.migration import with_migration


class _Resolution(Command):
    """A verb over one migration; its history says who, when and why."""

    needs_reason = True

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = with_migration(super().get_parser(prog_name))
        parser.add_argument("--reason", required=self.needs_reason, default="", help="For the history: why.")
        waiting.add(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Act; wait for what comes of it if told so."""
        waiting.check(parsed_args, parsed_args.wait)
        with self.app.client() as client:
            return waiting.follow(self, client, self.act(client, parsed_args), parsed_args)

    @abc.abstractmethod
    def act(self, client: Any, parsed_args: argparse.Namespace) -> str:
        """Ask for it; return the migration's uuid."""


class CancelMigration(_Resolution):
    """Undo a migration that is under way: its copy stops within seconds, and the server runs where it ran.

    Refused once the server was handed over.
    """

    def act(self, client: Any, parsed_args: argparse.Namespace) -> str:
        """Wish it undone."""
        return str(
            client.cancel(parsed_args.migration, requested_by=getpass.getuser(), reason=parsed_args.reason)
        )


class RetryMigration(_Resolution):
    """Let a parked migration go on with the step at which it stopped, forward or walking back."""

    needs_reason = False

    def act(self, client: Any, parsed_args: argparse.Namespace) -> str:
        """Put it back on a board."""
        return str(
            client.retry(parsed_args.migration, requested_by=getpass.getuser(), reason=parsed_args.reason)
        )


class RevertMigration(_Resolution):
    """Let a parked migration walk back. Refused once the server was handed over."""

    def act(self, client: Any, parsed_args: argparse.Namespace) -> str:
        """Turn it round and put it back on a board."""
        return str(
            client.revert(parsed_args.migration, requested_by=getpass.getuser(), reason=parsed_args.reason)
        )


class SkipStep(_Resolution):
    """Take the step at which a parked migration stopped as done, and go on.

    Refused for a step that guards the server's data.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("step", metavar="STEP", help="As hostler migration show names it.")
        return parser

    def act(self, client: Any, parsed_args: argparse.Namespace) -> str:
        """Take the step as done."""
        who = getpass.getuser()
        return str(
            client.skip(parsed_args.migration, parsed_args.step, requested_by=who, reason=parsed_args.reason)
        )


class RecoverMigration(_Resolution):
    """Walk a migration back without a host that will not come back soon.

    A destination that died behind the hand-over is given up for the files that the source set aside: what the
    server has written since is dropped. A source that died before has the only files: the destination is freed,
    and the server waits for its host. The host that is down undoes its own part when it is back, before it takes
    any job.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--host-is-down", metavar="HOST", required=True, help="The host that is given up."
        )
        parser.add_argument(
            "--drop-writes",
            action="store_true",
            help="Accept that what the server has written on that host since it was handed over is lost.",
        )
        return parser

    def act(self, client: Any, parsed_args: argparse.Namespace) -> str:
        """Ask for it."""
        return str(
            client.recover(
                parsed_args.migration,
                parsed_args.host_is_down,
                requested_by=getpass.getuser(),
                reason=parsed_args.reason,
                drop_writes=parsed_args.drop_writes,
            )
        )
