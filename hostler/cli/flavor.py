"""``hostler flavor``: named sizes of servers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from hostler.cli.base import Command, Lister, ShowOne
from hostler.records import flavors
from hostler.records.models import Flavor


class CreateFlavor(ShowOne):
    """Make a flavor. It is never changed: servers are resized to another one.

    0 of a disk says nothing of it: a server that is resized to the flavor keeps the disk that it has.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = _with_flavor(super().get_parser(prog_name))
        parser.add_argument("--vcpus", type=int, required=True, help="Number of virtual CPUs.")
        parser.add_argument("--ram", type=int, required=True, metavar="MIB", help="Memory in MiB.")
        parser.add_argument("--disk", type=int, default=0, metavar="GIB", help="Root disk in GiB.")
        parser.add_argument(
            "--ephemeral", type=int, default=0, metavar="GIB", help="All ephemeral disks together, in GiB."
        )
        parser.add_argument("--swap", type=int, default=0, metavar="MIB", help="Swap disk in MiB.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Make it; return its fields and their values."""
        with self.app.client() as client, client.database.transaction() as session:
            flavor = flavors.create(
                session,
                parsed_args.flavor,
                vcpus=parsed_args.vcpus,
                memory_mb=parsed_args.ram,
                root_gb=parsed_args.disk,
                ephemeral_gb=parsed_args.ephemeral,
                swap_mb=parsed_args.swap,
            )
            return _shown(flavor)


class ListFlavors(Lister):
    """List the flavors, the smallest first."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        columns = ("ID", "Name", "vCPUs", "RAM MiB", "Disk GiB", "Ephemeral GiB", "Swap MiB")
        with self.app.client() as client, client.database.reading() as session:
            return columns, [tuple(_facts(one).values()) for one in flavors.all_flavors(session)]


class ShowFlavor(ShowOne):
    """Show one flavor."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return _with_flavor(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Return the fields and their values."""
        with self.app.client() as client, client.database.reading() as session:
            return _shown(flavors.find(session, parsed_args.flavor))


class DeleteFlavor(Command):
    """Remove a flavor that no server has, and that no migration may still give to one, or give back."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return _with_flavor(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Remove it."""
        with self.app.client() as client, client.database.transaction() as session:
            flavors.remove(session, parsed_args.flavor)


def _with_flavor(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("flavor", metavar="FLAVOR", help="Name of the flavor, or its id.")
    return parser


def _shown(flavor: Flavor) -> tuple[Sequence[str], Sequence[Any]]:
    facts = _facts(flavor)
    return tuple(facts), tuple(facts.values())


def _facts(flavor: Flavor) -> dict[str, Any]:
    return {
        "id": flavor.id,
        "name": flavor.name,
        "vcpus": flavor.vcpus,
        "ram_mb": flavor.memory_mb,
        "disk_gb": flavor.root_gb,
        "ephemeral_gb": flavor.ephemeral_gb,
        "swap_mb": flavor.swap_mb,
    }
