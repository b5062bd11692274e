"""Hosts whose bridges are called otherwise: the request says how, and the way back has the old name."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab import Guest, Host
from tests.support.operator import changed, hostler, move, told, view, wait_known, wait_ready

pytestmark = pytest.mark.lab

ASKED = "--map-network=br0=br-lan"


@pytest.fixture
def bridge(kvm2: Host) -> Iterator[str]:
    """A second bridge of kvm2, which kvm1 has not."""
    kvm2.run(["ip", "link", "add", "br-lan", "type", "bridge"])
    kvm2.run(["ip", "link", "set", "br-lan", "up"])
    yield "br-lan"
    kvm2.run(["ip", "link", "delete", "br-lan"])


def bridges(host: Host, guest: Guest) -> list[str]:
    """What its interfaces are plugged into, by its definition."""
    return re.findall(r"<source bridge='([^']*)'", host.virsh("dumpxml", "--inactive", guest.name))


def test_a_guest_is_plugged_into_the_bridge_that_is_named_and_goes_back_to_its_own(
    kvm1: Host, kvm2: Host, bridge: str
) -> None:
    guest = Guest("mapped").create(kvm1)
    guest.start(kvm1)
    wait_known(kvm1, guest)
    before = view(kvm1, guest.disk_path()), view(kvm2)

    for wrong, said in (
        ("br7=br-lan", "--map-network names br7, which no interface of the server is plugged into"),
        ("br0=br7", "kvm2 has no bridge br7"),
    ):
        refused = move(kvm1, guest.name, "kvm2", f"--map-network={wrong}")
        assert (refused.code, said in refused.out + refused.err) == (3, True), refused
    assert changed(before, (view(kvm1, guest.disk_path()), view(kvm2))) == []

    plan = hostler(kvm1, "server", "migrate", "--to", "kvm2", ASKED, "--dry-run", guest.name)
    assert plan.code == 0
    assert "bridge:br0 -> bridge:br-lan" in plan.out
    assert move(kvm1, guest.name, "kvm2", ASKED).code == 0
    guest.wait_for_boot(kvm2)
    assert bridges(kvm2, guest) == [bridge]
    assert "vnet" in kvm2.run(["ip", "-o", "link", "show", "master", bridge]).stdout
    assert told(kvm1, "migration", "show", guest.name)["network_map"] == "br0=br-lan"

    wish = ("server", "revert", guest.name, "--reason", "slow", "--drop-writes", "--wait")
    assert hostler(kvm1, *wish).code == 0
    guest.wait_for_boot(kvm1, 2)
    assert bridges(kvm1, guest) == ["br0"]
    wait_ready(kvm1, kvm2)
    assert changed(before, (view(kvm1, guest.disk_path()), view(kvm2))) == []
