"""What libvirt is asked outside the hypervisor's driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.drivers.libvirt_facts import LibvirtFacts
from hostler.drivers.ports.libvirt import device_exists
from hostler.errors import ServerUnreachable
from hostler.objects import Secret


def test_networks_are_listed_with_their_state() -> None:
    assert LibvirtFacts("test:///default").networks() == {"default": True}


def test_a_libvirt_that_is_away_is_named(tmp_path: Path) -> None:
    facts = LibvirtFacts(f"qemu+unix:///system?socket={tmp_path}/none")
    for ask in (facts.networks, lambda: facts.secret_problem(Secret("ceph", "x"))):
        with pytest.raises(ServerUnreachable, match="libvirt does not answer at qemu"):
            ask()


@pytest.mark.parametrize(
    ("name", "there"), [("lo", True), ("br-none", False), ("..", False), ("", False), ("a/b", False)]
)
def test_devices_are_looked_for_by_name(name: str, there: bool) -> None:
    assert device_exists(name) is there
