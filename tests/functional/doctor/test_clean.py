"""Where nothing is wrong the doctor says so: at rest, between any two steps, and after each kind of end."""

from __future__ import annotations

import pytest

from hostler.errors import MigrationError, SessionLost, Stopping
from hostler.flows import shape_of
from tests.functional.doctor.conftest import Ward
from tests.support.world import World, failing, step

NAMES = [one.name for one in shape_of("cold_migration")]


def kinds(ward: Ward) -> list[str]:
    return [one.kind for one in ward.examine().findings]


def test_servers_at_rest_are_clean(world: World, ward: Ward) -> None:
    world.add_server("web1")
    world.add_server("web2", layout="pool", running=False)
    report = ward.examine()
    assert (report.findings, report.exit_code, report.hosts) == ([], 0, ["kvm1", "kvm2"])


@pytest.mark.parametrize("layout", ["dir", "pool"])
def test_a_migration_that_waits_for_its_confirmation_is_clean(world: World, ward: Ward, layout: str) -> None:
    world.add_server(layout=layout)
    assert world.migrate("web1").outcome == "success"
    assert kinds(ward) == []


def test_a_confirmed_migration_is_clean(world: World, ward: Ward) -> None:
    world.add_server()
    world.migrate("web1")
    number = world.client.confirm("web1", requested_by="tester")
    world.run()
    assert world.migration(number).status == "confirmed"
    assert ward.examine().exit_code == 0
    assert set(kinds(ward)) <= {"journal"}
    assert ward.fix().exit_code == 0
    assert kinds(ward) == []


def test_a_migration_that_was_undone_is_clean(world: World, ward: Ward) -> None:
    world.add_server()
    with failing(step("cold_migration", "HandOver"), MigrationError("no"), when="before"):
        assert world.migrate("web1").outcome == "reverted"
    assert kinds(ward) == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_said_of_a_migration_that_is_under_way(world: World, ward: Ward, name: str) -> None:
    world.add_server()
    world.client.migrate("web1", "kvm2", requested_by="tester")
    with (
        failing(step("cold_migration", name), Stopping("killed"), when="after"),
        pytest.raises(Stopping),
    ):
        world.run()
    assert kinds(ward) == []
    assert ward.fix().exit_code == 0
    world.run()
    assert world.instance(next(iter(world.look()["instances"]))).host == "kvm2"
    assert kinds(ward) == []


def test_what_a_dead_host_owes_is_its_own_affair(world: World, ward: Ward) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    with (
        failing(
            step("cold_migration", "VerifyImages"),
            SessionLost("power cut"),
            when="after",
            also=lambda: world.cut_power("kvm2"),
        ),
        pytest.raises(SessionLost),
    ):
        world.run()
    ward.worker_dies("kvm2")
    world.run()
    assert world.migration(number).outcome == "reverted"
    report = ward.examine()
    assert {one.kind for one in report.findings} == {"debt", "unseen"}
    assert report.exit_code == 1
    world.power_on("kvm2")
    world.board.client.create(world.board.path("workers", "kvm2"), b"{}", ephemeral=True)
    assert kinds(ward) == []
