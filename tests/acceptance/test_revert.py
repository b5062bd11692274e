"""A server that was moved goes back to its old host, with its old data, also when a worker is killed on the way."""

from __future__ import annotations

from typing import Literal

import pytest

from lab import Guest, Host
from lab.disks import LAYERED, Disk
from tests.support.operator import (
    Asked,
    changed,
    hostler,
    move,
    server,
    told,
    view,
    wait_known,
    wait_ready,
)

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(("dies", "layout"), [("kvm2", "dir"), ("kvm1", "flat")])
def test_a_server_goes_back_whichever_worker_is_killed_on_the_way(
    kvm1: Host, kvm2: Host, dies: str, layout: Literal["dir", "flat"]
) -> None:
    # deaf to the power button, it takes seconds to stop: time enough to kill who stops it
    deaf = dies == "kvm2"
    disks = (LAYERED, Disk())
    guest = Guest(f"back-{layout}", layout=layout, disks=disks, autostart=True, ignore_acpi=deaf).create(kvm1)
    guest.start(kvm1)
    wait_known(kvm1, guest)
    before = view(kvm1, guest.disk_path()), view(kvm2)
    assert move(kvm1, guest.name, "kvm2").code == 0
    guest.wait_for_boot(kvm2)
    refused = hostler(kvm2, "server", "revert", guest.name, "--reason", "slow")
    assert refused.code == 3
    assert refused.hint == f"try: hostler server revert {guest.name} --reason ... --drop-writes"

    wish = ("server", "revert", guest.name, "--reason", "slow", "--drop-writes")
    asked = Asked(kvm1 if dies == "kvm2" else kvm2, *wish, "--wait", "--format", "plain")
    asked.says("StopGuest running" if deaf else "HandBack done")
    killed = {"kvm1": kvm1, "kvm2": kvm2}[dies]
    killed.kill_worker()
    killed.start_worker()

    assert asked.end().code == 0
    assert f"brought back: {guest.name} is on kvm1 again, running" in asked.text
    # what it wrote on kvm2 is not there
    assert f" BOOTS=2 DIRTY={'yes' if deaf else 'no'} " in guest.wait_for_boot(kvm1, 2)
    assert guest.state(kvm2) is None
    assert server(kvm2, guest.name) == ("kvm1", "active", None, "running")
    wait_ready(kvm1, kvm2)
    after = view(kvm1, guest.disk_path()), view(kvm2)
    assert changed(before, after) == []
    assert told(kvm1, "migration", "show", guest.name)["status"] == "reverted"
    again = hostler(kvm1, *wish)
    assert (again.code, again.hint) == (3, f"try: hostler server show {guest.name}")
