"""The filters that come with hostler. What a host or a server has not told yet speaks against nobody.

What has an error of its own where a host is named says to type what that says; anything else is seen at the host.
"""

from __future__ import annotations

from hostler.errors import (
    GroupAffinityViolation,
    HostDisabled,
    HostUnavailable,
    Problem,
    UnableToMigrateToSelf,
)
from hostler.networks import renamed
from hostler.objects import GuestKind
from hostler.records import hosts
from hostler.records.groups import HARD
from hostler.scheduling import HostState, Request


def alive(host: HostState, _request: Request) -> str | None:
    """Its worker is alive."""
    return None if host.alive else Problem("no worker is alive on it", HostUnavailable(host=host.name).hint)


def enabled(host: HostState, _request: Request) -> str | None:
    """It takes new servers."""
    if host.disabled_reason is None:
        return None
    refusal = HostDisabled(host=host.name, reason=host.disabled_reason)
    return Problem(f"it takes no new servers: {host.disabled_reason}", refusal.hint)


def same_host(host: HostState, request: Request) -> str | None:
    """It is another host than the one that has the server, unless that will do."""
    if host.name != request.source:
        return None
    if request.network_map:
        return "the server is on it, and keeps its networks there"
    if request.same_host:
        return None
    return Problem("the server is on it", UnableToMigrateToSelf(server=request.server, host=host.name).hint)


def capacity(host: HostState, request: Request) -> str | None:
    """It has enough CPUs, memory and disk left."""
    found = [
        f"it has not enough {short.resource}: {short.need} {short.unit} needed, {short.free} {short.unit} free"
        for short in hosts.shortages(request.need_on(host.name), host.free)
    ]
    return "; ".join(found) or None


def networks(host: HostState, request: Request) -> str | None:
    """It has the networks and bridges that the server is plugged into."""
    if host.capabilities is None:
        return (
            "its worker has not told yet whether it knows of --map-network" if request.network_map else None
        )
    if request.network_map and not host.capabilities.maps_networks:
        return "its worker is of an older version, and does not know of --map-network"
    sources = set(host.capabilities.sources)
    asked = (renamed(source, request.network_map) or source for source in request.requirements.sources)
    missing = [source for source in dict.fromkeys(asked) if source not in sources]
    return f"it cannot connect {', '.join(missing)}" if missing else None


def machine(host: HostState, request: Request) -> str | None:
    """It can run guests of that architecture, virtualization type and machine type."""
    wanted, kinds = request.requirements, _kinds(host)
    if not kinds or not wanted.arch:
        return None
    of_arch = [kind for kind in kinds if kind.arch == wanted.arch]
    if not of_arch:
        return f"it runs no {wanted.arch} guests"
    of_type = [kind for kind in of_arch if wanted.virt_type in ("", kind.virt_type)]
    if not of_type:
        return f"it has no {wanted.virt_type} for {wanted.arch} guests"
    if wanted.machine and not any(wanted.machine in kind.machines for kind in of_type):
        return f"it has no machine type {wanted.machine} for {wanted.arch} guests"
    return None


def cpu(host: HostState, request: Request) -> str | None:
    """It can give the server the CPU that it is defined with."""
    wanted = request.requirements
    for kind in _kinds(host):
        if (kind.arch, kind.virt_type) != (wanted.arch, wanted.virt_type):
            continue
        if wanted.cpu_mode and kind.cpu_modes and wanted.cpu_mode not in kind.cpu_modes:
            return f"it has no CPU mode {wanted.cpu_mode!r} for {wanted.virt_type} guests"
        if wanted.cpu_model in kind.unusable_cpus:
            return f"its CPU is not enough for CPU model {wanted.cpu_model}"
    return None


def groups(host: HostState, request: Request) -> str | None:
    """The policy of the server's group allows it; the soft ones are a weigher's."""
    found = request.membership
    reason = found.violated_by(host.name) if found is not None and found.policy in HARD else None
    if found is None or reason is None:
        return None
    refusal = GroupAffinityViolation(host=host.name, reason=reason, group=found.group)
    return Problem(reason, refusal.hint)


def _kinds(host: HostState) -> list[GuestKind]:
    return host.capabilities.guests if host.capabilities is not None else []
