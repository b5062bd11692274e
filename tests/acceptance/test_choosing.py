"""No host is named: a host is chosen that takes servers, that the group allows, and on which there are CPUs to have."""

from __future__ import annotations

import pytest

from lab import Guest, Host
from tests.support.operator import confirm, domain, hostler, server, told, wait_known

pytestmark = pytest.mark.lab


def pin(host: Host, guest: Guest, cpu: int) -> None:
    """Give the guest a CPU of its host for itself, as an administrator does."""
    host.virsh("vcpupin", guest.uuid, "0", str(cpu), "--config")
    host.virsh("emulatorpin", guest.uuid, str(cpu), "--config")


def pinned_to(host: Host, guest: Guest) -> list[str]:
    """CPUs of the guest that runs, as its own libvirt tells: of its vCPU, and of its emulator."""
    return [host.virsh(command, guest.uuid).split()[-1] for command in ("vcpupin", "emulatorpin")]


def test_a_host_is_chosen_that_takes_the_server_and_there_a_cpu_that_is_free(kvm1: Host, kvm2: Host) -> None:
    chosen, apart = Guest("chosen"), Guest("apart")
    chosen.create(kvm1)
    apart.create(kvm2)
    pin(kvm1, chosen, 0)
    pin(kvm2, apart, 0)
    chosen.start(kvm1)
    wait_known(kvm1, chosen)
    wait_known(kvm2, apart)
    before = domain(kvm1, chosen.uuid)
    assert pinned_to(kvm1, chosen) == ["0", "0"]

    assert hostler(kvm1, "group", "create", "pair", "--policy", "anti-affinity").code == 0
    for guest in (chosen, apart):
        assert hostler(kvm1, "group", "add", "pair", guest.name).code == 0
    refused = hostler(kvm1, "server", "migrate", chosen.name)
    assert (refused.code, refused.hint) == (3, "try: hostler server migrate --dry-run -- chosen")
    dry = hostler(kvm1, "server", "migrate", chosen.name, "--dry-run")
    assert dry.code == 3
    assert "kvm1  no: the server is on it" in dry.out
    assert "kvm2  no: " in dry.out and "apart" in dry.out
    assert hostler(kvm1, "group", "delete", "pair").code == 0

    assert hostler(kvm1, "host", "disable", "kvm2", "--reason", "new memory").code == 0
    refused = hostler(kvm1, "server", "migrate", chosen.name)
    assert (refused.code, "kvm2: it takes no new servers: new memory" in refused.err) == (3, True)
    assert hostler(kvm1, "host", "enable", "kvm2").code == 0

    moved = hostler(kvm1, "server", "migrate", chosen.name, "--wait", "--format", "plain")
    assert moved.code == 0, moved
    assert server(kvm1, chosen.name) == ("kvm2", "resized", None, "running")
    assert pinned_to(kvm2, chosen) == ["1", "1"]

    words = ("server", "revert", chosen.name, "--reason", "slow", "--drop-writes", "--wait")
    assert hostler(kvm1, *words).code == 0
    assert domain(kvm1, chosen.uuid)["xml"] == before["xml"]
    assert pinned_to(kvm1, chosen) == ["0", "0"]

    assert hostler(kvm1, "server", "migrate", chosen.name, "--wait").code == 0
    assert confirm(kvm1, chosen.name).code == 0
    assert pinned_to(kvm2, chosen) == ["1", "1"]
    assert told(kvm1, "server", "show", chosen.name)["host"] == "kvm2"
