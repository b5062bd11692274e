"""What a dry run finds in the way comes with what to type about it, from the host that found it to whoever looks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hostler.objects import PowerState
from hostler.records import groups
from hostler.records.models import Host
from hostler.views import snapshot
from hostler.views.changes import ending
from hostler.views.snapshot import Obstacle
from tests.support.world import World


def pause(world: World, server: str) -> None:
    world.hosts["kvm1"].hypervisor.guests[server].state = PowerState.PAUSED


def take_bridge_away(world: World, _server: str) -> None:
    world.hosts["kvm2"].hypervisor.bridges.clear()


def disable(world: World, _server: str) -> None:
    with world.database.transaction() as session:
        session.get_one(Host, "kvm2").disabled_reason = "repair"


def fill(world: World, _server: str) -> None:
    with world.database.transaction() as session:
        session.get_one(Host, "kvm2").memory_mb = 1


def keep_together(world: World, _server: str) -> None:
    world.add_server("web2")
    with world.database.transaction() as session:
        groups.create(session, "web", "affinity")
        for name in ("web1", "web2"):
            groups.add_member(session, "web", name)


@pytest.mark.parametrize(
    ("spoil", "host", "problem", "following"),
    [
        (pause, "kvm1", "resume or stop it first", "on kvm1: virsh dumpxml {server}"),
        (take_bridge_away, "kvm2", "bridge br0", "hostler host show kvm2"),
        (disable, "kvm2", "takes no new servers: repair", "hostler host list"),
        (fill, "kvm2", "not enough memory", "hostler host show kvm2"),
        (keep_together, "kvm2", "keeps it together with 'web2'", "hostler group show web"),
    ],
)
def test_what_is_in_the_way_is_told_with_its_own_next_command(
    world: World, spoil: Callable[[World, str], None], host: str, problem: str, following: str
) -> None:
    server = world.add_server()
    spoil(world, server)
    number = world.client.dry_run("web1", "kvm2", requested_by="tester")
    world.run()
    with world.database.reading() as session:
        seen = snapshot.find(session, number)
    (found,) = seen.obstacles
    assert problem in found.problem
    assert found == Obstacle(host, found.problem, following.format(server=server))
    again = "hostler server migrate --to kvm2 --dry-run web1"
    assert ending(seen) == (f"it would be refused: {host}: {found.problem}", f"{found.next}; then: {again}")
    assert seen.exit_code == 3
