"""``hostler group``: servers that belong on one host, or on different ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hostler.cli.base import Command, Lister, ShowOne
from hostler.cli.cells import Lines
from hostler.records import groups
from hostler.views.text import command, printable, stamp


class CreateGroup(ShowOne):
    """Make a group of servers, empty at first."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = _with_group(super().get_parser(prog_name))
        parser.add_argument(
            "--policy",
            choices=groups.POLICIES,
            required=True,
            help="affinity: all on one host; anti-affinity: each on another. A host that breaks it is refused."
            " The soft ones only prefer the hosts that keep it.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Make it; return its fields."""
        with self.app.client() as client, client.database.transaction() as session:
            groups.create(session, parsed_args.group, parsed_args.policy)
            return _facts(session, parsed_args.group)


class DeleteGroup(Command):
    """Remove a group; its servers stay where they are."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return _with_group(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Remove it."""
        with self.app.client() as client, client.database.transaction() as session:
            groups.remove(session, parsed_args.group)


class ListGroups(Lister):
    """List the groups."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        with self.app.client() as client, client.database.reading() as session:
            rows = [
                (group.name, group.policy, len(groups.members(session, group.name)))
                for group in groups.all_groups(session)
            ]
        return ("Name", "Policy", "Servers"), rows


class ShowGroup(ShowOne):
    """Show one group: its policy, its servers and where they are."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return _with_group(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Return the fields and their values."""
        with self.app.client() as client, client.database.reading() as session:
            return _facts(session, parsed_args.group)


class AddMember(Command):
    """Put a server into a group. Its policy counts from the next move on; nothing is moved now."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return _with_server(_with_group(super().get_parser(prog_name)))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Put it there; say so if the policy does not hold at present."""
        with self.app.client() as client, client.database.transaction() as session:
            broken = groups.add_member(session, parsed_args.group, parsed_args.server)
        if broken is not None:
            self.app.stderr.write(f"hostler: {printable(broken)}\n")
            self.app.stderr.write(f"  try: {command('server', 'migrate', parsed_args.server)}\n")


class RemoveMember(Command):
    """Take a server out of a group."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return _with_server(_with_group(super().get_parser(prog_name)))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Take it out."""
        with self.app.client() as client, client.database.transaction() as session:
            groups.remove_member(session, parsed_args.group, parsed_args.server)


def _with_group(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("group", metavar="GROUP", help="Name of the group.")
    return parser


def _with_server(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("server", metavar="SERVER", help="Name or UUID.")
    return parser


def _facts(session: Session, name: str) -> tuple[Sequence[str], Sequence[Any]]:
    group = groups.get(session, name)
    servers = [
        {"name": server.name, "uuid": server.uuid, "host": server.host}
        for server in groups.members(session, group.name)
    ]
    facts = {
        "name": group.name,
        "policy": group.policy,
        "servers": Lines(servers),
        "created_at": stamp(group.created_at),
    }
    return tuple(facts), tuple(facts.values())
