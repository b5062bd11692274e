"""The weighers that come with hostler."""

from __future__ import annotations

from hostler.scheduling import HostState, Request


def vcpus(host: HostState, _request: Request) -> float:
    """The more CPUs are left, the better."""
    return float(host.free.vcpus)


def memory(host: HostState, _request: Request) -> float:
    """The more memory is left, the better."""
    return float(host.free.memory_mb)


def disk(host: HostState, _request: Request) -> float:
    """The more disk is left, the better."""
    return float(host.free.disk_bytes)


def arriving(host: HostState, _request: Request) -> float:
    """The fewer migrations are on their way to it, the better."""
    return float(-host.arriving)


def groups(host: HostState, request: Request) -> float:
    """The more (soft-affinity) or the fewer (soft-anti-affinity) of the server's group are there, the better."""
    found = request.membership
    if found is None:
        return 0.0
    signs = {"soft-affinity": 1.0, "soft-anti-affinity": -1.0}
    return signs.get(found.policy, 0.0) * found.count(host.name)
