"""What the records and the boards alone refuse of a move or a resize, before anything is written."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from hostler.errors import (
    CannotResizeToSameHost,
    HostUnavailable,
    InstanceInvalidState,
    MigrationInProgress,
    NetworksNotMapped,
    UnableToMigrateToSelf,
    UnexpectedTaskStateError,
)
from hostler.records import hosts, instances
from hostler.records.models import Instance
from hostler.scheduling import Request
from hostler.views.text import command


def movable(session: Session, server: str, dest: str | None, workers: Container[str]) -> Instance:
    """Return the server, if it may go to *dest*, or for None to wherever the scheduler finds."""
    instance = instances.find(session, server)
    if dest is not None:
        hosts.get(session, dest)
    if instance.host == dest:
        raise UnableToMigrateToSelf(server=instance.name, host=dest)
    _refuse_under_way(session, instance)
    _refuse_silent(workers, dest, instance.host)
    return instance


def resizable(
    session: Session, server: str, flavor: str, dest: str | None, workers: Container[str], *, in_place: bool
) -> Instance:
    """Return the server, if it may be resized on *dest*; *in_place*: its own host will do, too."""
    instance = instances.find(session, server)
    if dest != instance.host:
        return movable(session, server, dest, workers)
    _refuse_under_way(session, instance)
    if not in_place:
        raise CannotResizeToSameHost(server=instance.name, host=instance.host, flavor=flavor)
    _refuse_silent(workers, instance.host)
    return instance


def unless_settled(session: Session, instance: Instance, method: str) -> None:
    """Refuse a server that waits to be confirmed, or that is at work."""
    if unconfirmed := instances.unconfirmed_migration(session, instance.uuid):
        raise InstanceInvalidState(
            server=instance.name,
            state=f"resized, and migration {unconfirmed.uuid} waits to be confirmed",
            method=method,
            allowed="confirmed first",
            hint=command("server", "confirm", instance.name, fallback=instance.uuid),
        )
    if instance.vm_state not in ("active", "stopped") or instance.task_state is not None:
        state = instance.task_state or instance.vm_state
        raise InstanceInvalidState(
            server=instance.name, state=state, method=method, allowed="active or stopped"
        )


def unless_mapped(session: Session, request: Request, dest: str) -> None:
    """Refuse names of networks to a host whose worker would pass over them, or where the server keeps its own."""
    if not request.network_map:
        return
    reasons = {
        "the server is on it, and keeps its networks there": request.source == dest,
        "its worker is of an older version, and does not know of --map-network": not (
            hosts.get(session, dest).capabilities or {}
        ).get("maps_networks"),
    }
    for reason in (reason for reason, holds in reasons.items() if holds):
        raise NetworksNotMapped(server=request.server, host=dest, reason=reason)


@contextmanager
def if_lost(instance: Instance, method: str, allowed: str) -> Iterator[None]:
    """Turn a race for the server that was lost into a refusal: nothing of the request has been written."""
    try:
        yield
    except UnexpectedTaskStateError as error:
        raise InstanceInvalidState(
            server=instance.name, state=error.actual, method=method, allowed=allowed
        ) from error


def _refuse_under_way(session: Session, instance: Instance) -> None:
    instances.refuse_locked(instance)  # here, so that no verb that begins something forgets it
    if other := instances.migration_under_way(session, instance.uuid):
        raise MigrationInProgress(server=instance.name, migration=other.uuid)


def _refuse_silent(workers: Container[str], *needed: str | None) -> None:
    for host in needed:
        if host is not None and host not in workers:
            raise HostUnavailable(host=host)
