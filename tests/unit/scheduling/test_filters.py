"""What each filter says of a host, and that nobody is refused for what is not known."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hostler.objects import GuestKind, HostCapabilities, Requirements
from hostler.records.groups import Member, Membership
from hostler.records.hosts import Amounts
from hostler.scheduling import HostState, Request, filters

NEED = Amounts(vcpus=2, memory_mb=2048, disk_bytes=20 << 30)
CAPABILITIES = HostCapabilities(
    guests=[
        GuestKind(
            "x86_64", "kvm", ["pc-q35-7.2", "q35"], ["custom", "host-passthrough"], ["Cascadelake-Server"]
        ),
        GuestKind("x86_64", "qemu", ["pc-q35-7.2", "q35"], ["custom"], []),
    ],
    sources=["bridge:br0", "network:default"],
    maps_networks=True,
)
WANTED = Requirements("x86_64", "kvm", "pc-q35-7.2", "host-passthrough", None, ["bridge:br0"])


def host(**facts: Any) -> HostState:
    state = HostState(name="kvm2", alive=True, free=Amounts(4, 4096, 40 << 30), capabilities=CAPABILITIES)
    return dataclasses.replace(state, **facts)


def request(**facts: Any) -> Request:
    made = Request(server="web1", uuid="1", source="kvm1", need=NEED, requirements=WANTED)
    return dataclasses.replace(made, **facts)


def wanting(**facts: Any) -> Request:
    return request(requirements=dataclasses.replace(WANTED, **facts))


def mapping(there: str, here: str) -> Request:
    return request(network_map={there: here})


def in_group(policy: str, **places: set[str]) -> Request:
    others = tuple(Member(name, frozenset(hosts)) for name, hosts in places.items())
    return request(membership=Membership("web", policy, others))


EVERY = [
    getattr(filters, name)
    for name in ("alive", "enabled", "same_host", "groups", "capacity", "machine", "cpu", "networks")
]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.__name__)
def test_a_host_that_fits_passes(one: Any) -> None:
    assert one(host(), request()) is None


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.__name__)
def test_what_nobody_has_told_yet_speaks_against_nobody(one: Any) -> None:
    assert one(host(capabilities=None), request()) is None
    assert one(host(), request(requirements=Requirements(), need=Amounts(0, 0, 0))) is None
    assert one(host(capabilities=HostCapabilities(sources=["bridge:br0"])), request()) is None


@pytest.mark.parametrize(
    ("one", "state", "asked", "reason"),
    [
        (filters.alive, host(alive=False), request(), "no worker is alive on it"),
        (filters.enabled, host(disabled_reason="repair"), request(), "it takes no new servers: repair"),
        (filters.same_host, host(name="kvm1"), request(), "the server is on it"),
        (
            filters.capacity,
            host(free=Amounts(1, 4096, 0)),
            request(),
            "it has not enough virtual CPUs: 2 vCPUs needed, 1 vCPUs free;"
            " it has not enough disk: 20 GiB needed, 0 GiB free",
        ),
        (
            filters.networks,
            host(),
            wanting(sources=["bridge:br7", "bridge:br0", "network:lab"]),
            "it cannot connect bridge:br7, network:lab",
        ),
        (
            filters.networks,
            host(),
            mapping(":br0", ":br9"),
            "it cannot connect bridge:br9",
        ),
        (
            filters.networks,
            host(capabilities=dataclasses.replace(CAPABILITIES, maps_networks=False)),
            mapping(":br0", ":br0"),
            "its worker is of an older version, and does not know of --map-network",
        ),
        (
            filters.networks,
            host(capabilities=None),
            mapping(":br0", ":br0"),
            "its worker has not told yet whether it knows of --map-network",
        ),
        (
            filters.same_host,
            host(name="kvm1"),
            dataclasses.replace(mapping(":br0", ":br1"), same_host=True),
            "the server is on it, and keeps its networks there",
        ),
        (filters.machine, host(), wanting(arch="aarch64"), "it runs no aarch64 guests"),
        (filters.machine, host(), wanting(virt_type="xen"), "it has no xen for x86_64 guests"),
        (
            filters.machine,
            host(),
            wanting(machine="pc-q35-9.9"),
            "it has no machine type pc-q35-9.9 for x86_64 guests",
        ),
        (
            filters.cpu,
            host(),
            wanting(virt_type="qemu"),
            "it has no CPU mode 'host-passthrough' for qemu guests",
        ),
        (
            filters.cpu,
            host(),
            wanting(cpu_mode="custom", cpu_model="Cascadelake-Server"),
            "its CPU is not enough for CPU model Cascadelake-Server",
        ),
        (
            filters.groups,
            host(),
            in_group("anti-affinity", web2={"kvm3"}, web3={"kvm1", "kvm2"}),
            "group 'web' keeps it apart from 'web3', which has a place there",
        ),
        (
            filters.groups,
            host(),
            in_group("affinity", web2={"kvm1", "kvm2"}),
            "group 'web' keeps it together with 'web2', which has a place on kvm1 and kvm2",
        ),
    ],
)
def test_a_reason_is_a_sentence(one: Any, state: HostState, asked: Request, reason: str) -> None:
    assert one(state, asked) == reason


def test_what_a_network_is_called_there_is_looked_for() -> None:
    asked = dataclasses.replace(wanting(sources=["bridge:br7"]), network_map={":br7": ":br0"})
    assert filters.networks(host(), asked) is None


def test_its_own_host_will_do_if_the_request_says_so() -> None:
    assert filters.same_host(host(name="kvm1"), request(same_host=True)) is None


def test_a_model_that_only_kvm_lacks_is_fine_without_it() -> None:
    wanted = wanting(virt_type="qemu", cpu_mode="custom", cpu_model="Cascadelake-Server")
    assert filters.cpu(host(), wanted) is None


@pytest.mark.parametrize("policy", ["soft-affinity", "soft-anti-affinity"])
def test_a_soft_policy_refuses_nobody(policy: str) -> None:
    assert filters.groups(host(), in_group(policy, web2={"kvm2"}, web3={"kvm3"})) is None


def test_a_group_that_is_together_there_takes_one_more() -> None:
    assert filters.groups(host(), in_group("affinity", web2={"kvm2"}, web3={"kvm2"})) is None
