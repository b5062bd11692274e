"""``hostler server``: the virtual machines."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from hostler import networks
from hostler.cli import plan, waiting
from hostler.cli.base import Command, Lister, ShowOne, UsageError
from hostler.cli.typed import network_pair
from hostler.records import flavors, groups, hosts, instances
from hostler.records.models import Instance
from hostler.views.text import stamp

if TYPE_CHECKING:
    from hostler.jobboard.client import Client
    from hostler.scheduling.scheduler import Candidate

_DRY_RUN_TIMEOUT_S = 60.0


class ListServers(Lister):
    """List the servers of all hosts."""

    spare = ("Locked", "Task", "UUID")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--host", help="Only the servers of this host.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        statement = select(Instance).order_by(Instance.name, Instance.host)
        with self.app.client() as client, client.database.reading() as session:
            if parsed_args.host is not None:
                statement = statement.where(Instance.host == hosts.get(session, parsed_args.host).name)
            rows = [
                (
                    row.uuid,
                    row.name,
                    row.host,
                    row.vm_state,
                    row.task_state,
                    row.power_state,
                    row.locked_reason,
                )
                for row in session.scalars(statement)
            ]
        return ("UUID", "Name", "Host", "Status", "Task", "Power", "Locked"), rows


class ShowServer(ShowOne):
    """Show one server: its states, its host, and the migration that is under way or waits to be confirmed."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        return _with_server(super().get_parser(prog_name))

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Return the fields and their values."""
        with self.app.client() as client, client.database.reading() as session:
            server = instances.find(session, parsed_args.server)
            under_way = instances.migration_under_way(session, server.uuid)
            unconfirmed = instances.unconfirmed_migration(session, server.uuid)
            membership = groups.membership(session, server.uuid)
            flavor = flavors.of_server(session, server)
        facts = {
            "uuid": server.uuid,
            "name": server.name,
            "host": server.host,
            "vm_state": server.vm_state,
            "task_state": server.task_state,
            "power_state": server.power_state,
            "vcpus": server.vcpus,
            "memory_mb": server.memory_mb,
            "flavor": flavor.name,
            "disk_bytes": server.disk_bytes,
            "project": server.project_id,
            "locked_reason": server.locked_reason,
            "locked_by": server.locked_by,
            "locked_at": stamp(server.locked_at),
            "group": membership.group if membership else None,
            "migration_under_way": under_way.uuid if under_way else None,
            "migration_unconfirmed": unconfirmed.uuid if unconfirmed else None,
            "updated_at": stamp(server.updated_at),
        }
        return tuple(facts), tuple(facts.values())


class MigrateServer(Command):
    """Move a server to another host: the one that is named, or the best.

    The server is shut down, its files are copied and verified, and it is started on the other host; if any
    step fails, all of it is undone and the server runs where it ran. What it leaves behind on its old host
    stays there until ``hostler server confirm``. Without --to the best host is taken, and if that refuses, or
    the copy to it fails, the next one.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = _with_server(super().get_parser(prog_name))
        parser.add_argument(
            "--to", metavar="HOST", help="The host that is to have it, and no other; otherwise one is chosen."
        )
        _with_networks(parser)
        waiting.add(parser)
        return _with_dry_run(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Ask for the migration; wait for it if told so."""
        waiting.check(parsed_args, parsed_args.wait or parsed_args.dry_run)
        with self.app.client() as client:
            if parsed_args.dry_run:
                return _dry_run(self, client, parsed_args)
            migration = client.migrate(
                parsed_args.server,
                parsed_args.to,
                networks=_networks(parsed_args),
                requested_by=getpass.getuser(),
            )
            return waiting.follow(self, client, migration, parsed_args)


class ResizeServer(Command):
    """Give a server another flavor: on the host that is named, or on the best, which may be its own.

    The server is shut down and its files are copied, as for a move; the copies are grown, swap is made anew
    under its old UUID, and it is started with its new size. If any step fails, all of it is undone and the server
    runs as it ran. Its files as they were stay on its old host until ``hostler server confirm``. Without --to the
    best host is taken, and if that refuses, or the copy to it fails, the next one.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = _with_server(super().get_parser(prog_name))
        parser.add_argument("--flavor", metavar="FLAVOR", required=True, help="Its new size.")
        parser.add_argument(
            "--to",
            metavar="HOST",
            help="The host that is to have it, its own or another, and no other; otherwise one is chosen.",
        )
        _with_networks(parser)
        waiting.add(parser)
        return _with_dry_run(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Ask for the resize; wait for it if told so."""
        waiting.check(parsed_args, parsed_args.wait or parsed_args.dry_run)
        server, flavor, dest = parsed_args.server, parsed_args.flavor, parsed_args.to
        with self.app.client() as client:
            if parsed_args.dry_run:
                return _dry_run(self, client, parsed_args, flavor)
            migration = client.resize(
                server, flavor, dest, networks=_networks(parsed_args), requested_by=getpass.getuser()
            )
            return waiting.follow(self, client, migration, parsed_args)


class ConfirmServer(Command):
    """Keep a server where it was moved to, and remove what was set aside on its old host."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = _with_server(super().get_parser(prog_name))
        waiting.add(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Ask for the confirmation; wait for it if told so."""
        waiting.check(parsed_args, parsed_args.wait)
        with self.app.client() as client:
            migration = client.confirm(parsed_args.server, requested_by=getpass.getuser())
            return waiting.follow(self, client, migration, parsed_args)


class RevertServer(Command):
    """Bring a server that was moved, and is not confirmed yet, back to its old host, as it was when it left.

    What it has written since it was moved is dropped.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = _with_server(super().get_parser(prog_name))
        parser.add_argument("--reason", required=True, help="For the history: why.")
        parser.add_argument(
            "--drop-writes",
            action="store_true",
            help="Accept that what the server has written since it was moved is lost.",
        )
        waiting.add(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Ask for it; wait for it if told so."""
        waiting.check(parsed_args, parsed_args.wait)
        with self.app.client() as client:
            migration = client.revert_resize(
                parsed_args.server,
                requested_by=getpass.getuser(),
                reason=parsed_args.reason,
                drop_writes=parsed_args.drop_writes,
            )
            return waiting.follow(self, client, migration, parsed_args)


def _with_server(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "server", metavar="SERVER", help="Name or UUID; write -- before a name that begins with a dash."
    )
    return parser


def _with_networks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--map-network",
        action="append",
        default=[],
        type=network_pair,
        metavar="A=B",
        help="Plug what is plugged into the network or bridge A into B on the other host: br0=br1,"
        " bridge:br0=bridge:br1, network:lab=network:default. May be given several times.",
    )


def _networks(parsed_args: argparse.Namespace) -> dict[str, str]:
    """Return what was said of networks' names; what is said twice is a mistake."""
    pairs: list[tuple[str, str]] = parsed_args.map_network
    found = dict(pairs)
    if len(found) != len(pairs) or len(found) > networks.MOST:
        raise UsageError(
            f"--map-network names each network once, and {networks.MOST} at most",
            hint="hostler server show SERVER",
        )
    return found


def _with_dry_run(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="Make the same checks, print the plan and what would be refused, and change nothing.",
    )
    return parser


def _dry_run(
    asker: Command, client: Client, parsed_args: argparse.Namespace, flavor: str | None = None
) -> int:
    """Print each host with why not, if one has to be chosen, and the plan for the best."""
    server, dest, out = parsed_args.server, parsed_args.to, asker.app.stdout
    asked = _networks(parsed_args)
    candidates: Sequence[Candidate] = ()
    if dest is None:
        candidates = client.candidates(server, flavor, asked)
        if not candidates or candidates[0].reason is not None:
            return plan.show_none(server, candidates, out, fmt=parsed_args.format)
        dest = candidates[0].host
    migration = client.dry_run(server, dest, flavor=flavor, networks=asked, requested_by=getpass.getuser())
    timeout_s, fmt = _patience_s(parsed_args), parsed_args.format
    return plan.show(client, migration, out, timeout_s=timeout_s, fmt=fmt, candidates=candidates)


def _patience_s(parsed_args: argparse.Namespace) -> float:
    """Return how long a dry run is waited for, in seconds."""
    return float(parsed_args.timeout) if parsed_args.timeout is not None else _DRY_RUN_TIMEOUT_S
