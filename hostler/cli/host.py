"""``hostler host``: machines with a worker."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hostler.cli.base import Command, Lister, ShowOne
from hostler.cli.typed import storable
from hostler.records import hosts
from hostler.records.models import Host, Instance, LinkRate, Migration
from hostler.views.text import command, printable, stamp

_GIB = 1 << 30


class ListHosts(Lister):
    """List the hosts: whose worker is alive, what they carry and what is left of them."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        columns = ("Name", "Worker", "Servers", "Queue", "vCPUs Free", "Memory Free MiB", "Disk Free GiB")
        with self.app.client() as client:
            workers, queue = client.live_workers(), client.queue()
            with client.database.reading() as session:
                return columns, [_row(session, host, workers, queue) for host in hosts.all_hosts(session)]


class ShowHost(ShowOne):
    """Show one host: its resources, its worker, and the migrations that wait for it."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="Name of the host.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Return the fields and their values."""
        with self.app.client() as client:
            workers, queue = client.live_workers(), client.queue()
            with client.database.reading() as session:
                facts = _facts(session, hosts.get(session, parsed_args.host), workers, queue)
        return tuple(facts), tuple(facts.values())


class DisableHost(Command):
    """Let a host take no new servers. Those that it has, and those that have their place there, are left alone."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="Name of the host.")
        parser.add_argument("--reason", required=True, type=storable, help="For whoever is refused: why.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Disable it; a reason that is there already is replaced."""
        with self.app.client() as client, client.database.transaction() as session:
            hosts.disable(session, parsed_args.host, who=getpass.getuser(), reason=parsed_args.reason)
        enable = command("host", "enable", parsed_args.host)
        self.print(f"host {printable(parsed_args.host)} takes no new servers\n  until: {enable}")


class EnableHost(Command):
    """Let a host take servers again."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("host", metavar="HOST", help="Name of the host.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Enable it."""
        with self.app.client() as client, client.database.transaction() as session:
            hosts.enable(session, parsed_args.host, who=getpass.getuser())
        self.print(f"host {printable(parsed_args.host)} takes servers")


def _links(session: Session, name: str) -> list[str]:
    """Return what the links from a host are limited to: ``kvm2=104857600`` each, in bytes a second."""
    limited = select(LinkRate).where(LinkRate.source == name).order_by(LinkRate.dest)
    return [f"{link.dest}={link.rate_bytes_per_s}" for link in session.scalars(limited)]


def _servers(session: Session, name: str) -> int:
    return session.scalar(select(func.count()).select_from(Instance).where(Instance.host == name)) or 0


def _row(
    session: Session,
    host: Host,
    workers: Mapping[str, Mapping[str, object]],
    queue: Mapping[str, Sequence[str]],
) -> Sequence[Any]:
    free = hosts.capacity(host) - hosts.used(session, host.name)
    waiting = len(queue.get(host.name, ()))
    room = (free.vcpus, free.memory_mb, free.disk_bytes // _GIB)
    return (host.name, _state(host, workers), _servers(session, host.name), waiting, *room)


def _state(host: Host, workers: Mapping[str, Mapping[str, object]]) -> str:
    state = "up" if host.name in workers else "down"
    return state if host.disabled_reason is None else f"{state}, disabled"


def _since(seconds: object) -> str | None:
    """Return when a worker began, which it tells in seconds since 1970."""
    if not isinstance(seconds, int | float):
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _facts(
    session: Session,
    host: Host,
    workers: Mapping[str, Mapping[str, object]],
    queue: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    total, used = hosts.capacity(host), hosts.used(session, host.name)
    ends = (Migration.source_compute == host.name) | (Migration.dest_compute == host.name)
    moving = select(Migration.uuid).where(ends, Migration.phase.in_(("posting", "open", "parked")))
    worker = workers.get(host.name, {})
    return {
        "name": host.name,
        "worker": _state(host, workers),
        "worker_since": _since(worker.get("since")),
        "worker_version": worker.get("version", host.worker_version),
        "disabled_reason": host.disabled_reason,
        "switched_by": host.switched_by,
        "switched_at": stamp(host.switched_at),
        "address": host.address,
        "hypervisor_version": host.hypervisor_version,
        "rate_bytes_per_s": host.rate_bytes_per_s,
        "links": " ".join(_links(session, host.name)),
        "connects": " ".join((host.capabilities or {}).get("sources", ())),
        "servers": _servers(session, host.name),
        "migrations": " ".join(session.scalars(moving)),
        "queue": " ".join(queue.get(host.name, ())),
        "vcpus": total.vcpus,
        "vcpus_used": used.vcpus,
        "memory_mb": total.memory_mb,
        "memory_mb_used": used.memory_mb,
        "disk_bytes": total.disk_bytes,
        "disk_bytes_used": used.disk_bytes,
        "reported_at": stamp(host.updated_at),
    }
