"""``hostler server lock|unlock|set``: what is recorded of a server and changes nothing on its host."""

from __future__ import annotations

import argparse
import getpass

from hostler.cli.base import Command
from hostler.cli.typed import storable
from hostler.records import instances, quotas
from hostler.views.text import command, printable


class LockServer(Command):
    """Refuse whatever would change a server, until it is unlocked.

    Nothing is begun: no migration, no confirmation. What is under way goes on, and can be cancelled.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = _with_server(super().get_parser(prog_name))
        parser.add_argument("--reason", required=True, type=storable, help="For whoever is refused: why.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Lock it; a lock that is there already gets the new reason."""
        with self.app.client() as client, client.database.transaction() as session:
            who = getpass.getuser()
            server = instances.lock(session, parsed_args.server, who=who, reason=parsed_args.reason)
        unlock = command("server", "unlock", server.name, fallback=server.uuid)
        self.print(f"server {printable(server.name)} is locked\n  until: {unlock}")


class UnlockServer(Command):
    """Let a locked server be changed again. Nothing if it is not locked."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return _with_server(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Unlock it."""
        with self.app.client() as client, client.database.transaction() as session:
            server = instances.unlock(session, parsed_args.server)
        self.print(f"server {printable(server.name)} is not locked")


class SetServer(Command):
    """Say to which project a server belongs: whose quota it counts against."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = _with_server(super().get_parser(prog_name))
        parser.add_argument("--project", required=True, type=storable, help="Name of the project.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Move it, if the project has that much left."""
        with self.app.client() as client, client.database.transaction() as session:
            server = quotas.move_server(session, parsed_args.server, parsed_args.project)
        self.print(f"server {printable(server.name)} belongs to project {printable(server.project_id)}")


def _with_server(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "server", metavar="SERVER", help="Name or UUID; write -- before a name that begins with a dash."
    )
    return parser
