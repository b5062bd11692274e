"""``hostler quota``: what each project uses, and may use."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from cliff.columns import FormattableColumn

from hostler.cli.base import Command, Lister, UsageError
from hostler.cli.typed import storable
from hostler.records import quotas
from hostler.records.models import DEFAULT_PROJECT
from hostler.views.text import printable

UNLIMITED = "unlimited"
#: Far more than anybody has of anything, and less than a column of the records holds.
_MOST = 1 << 32


class Limit(FormattableColumn[int | None]):
    """A limit, in its unit; null in JSON where there is none."""

    def human_readable(self) -> str:
        """Return the number, or that there is none."""
        return UNLIMITED if self._value is None else str(self._value)


class ListQuotas(Lister):
    """List the projects: what they use and have reserved, of how much they may use."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        rows: list[Sequence[Any]] = []
        with self.app.client() as client, client.database.reading() as session:
            for project in quotas.projects(session):
                rows += [(project, *row) for row in _rows(session, project)]
        return ("Project", *_COLUMNS), rows


class ShowQuota(Lister):
    """Show what a project uses, what its migrations have reserved, and its limits."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("project", metavar="PROJECT", nargs="?", default=DEFAULT_PROJECT, help=_HELP)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        project = parsed_args.project
        with self.app.client() as client, client.database.reading() as session:
            if project != DEFAULT_PROJECT:
                quotas.find_project(session, project)
            return _COLUMNS, _rows(session, project)


class SetQuota(Command):
    """Limit what a project may use.

    A limit keeps servers of the project from growing; what runs goes on. One below what is used already is refused
    unless you insist.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("project", metavar="PROJECT", type=storable, help=_HELP)
        for resource, (unit, _) in quotas.RESOURCES.items():
            parser.add_argument(
                f"--{resource}", metavar="N", type=_limit, help=f"How many {unit}, or {UNLIMITED}."
            )
        parser.add_argument("--force", action="store_true", help="Even if the project uses more already.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Set the limits that were named."""
        named = {resource: getattr(parsed_args, resource) for resource in quotas.RESOURCES}
        limits = {resource: limit for resource, limit in named.items() if limit is not None}
        if not limits:
            options = ", ".join(f"--{name}" for name in quotas.RESOURCES)
            raise UsageError(f"say at least one of {options}", hint="hostler quota set --help")
        wanted = {resource: None if limit == UNLIMITED else limit for resource, limit in limits.items()}
        with self.app.client() as client, client.database.transaction() as session:
            quotas.set_limits(session, parsed_args.project, wanted, force=parsed_args.force)
        said = ", ".join(f"{resource} {limit}" for resource, limit in limits.items())
        self.print(f"quota of project {printable(parsed_args.project)}: {said}")


_HELP = (
    f"Name of the project, as the servers' records have it; {DEFAULT_PROJECT!r} where a server names none."
)
_COLUMNS = ("Resource", "Unit", "Used", "Reserved", "Limit")


def _rows(session: Any, project: str) -> list[Sequence[Any]]:
    used, reserved = quotas.used(session, project), quotas.reserved(session, project)
    limits = quotas.limits_of(session, project)
    rows: list[Sequence[Any]] = []
    for resource, (unit, size) in quotas.RESOURCES.items():
        amounts = (-(-getattr(usage, resource) // size) for usage in (used, reserved))
        limit = limits.get(resource)
        rows.append((resource, unit, *amounts, Limit(None if limit is None else limit // size)))
    return rows


def _limit(text: str) -> int | str:
    if text == UNLIMITED:
        return text
    if not text.isdecimal() or int(text) > _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number up to {_MOST} nor {UNLIMITED!r}")
    return int(text)
