"""Other servers of the host come and go while one is looked at."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from hostler.objects import Domain
from hostler.records import moves
from tests.support.world import World, step


def test_a_server_that_leaves_while_another_is_inspected_does_not_stop_that(world: World) -> None:
    world.add_server("web1")
    leaving = world.add_server("web2", running=False)
    hypervisor = world.hosts["kvm1"].hypervisor
    describe = hypervisor.describe

    def undefined_meanwhile(uuid: str) -> Domain:
        if uuid == leaving:
            hypervisor.undefine(leaving)
        return describe(uuid)

    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    hypervisor.describe = undefined_meanwhile  # type: ignore[method-assign]
    world.run()
    assert world.migration(number).outcome == "success"


@pytest.mark.parametrize("running", [True, False])
def test_a_server_that_somebody_undefines_on_its_way_is_there_again(world: World, running: bool) -> None:
    server = world.add_server("web1", running=running)
    before, hypervisor = world.look(), world.hosts["kvm1"].hypervisor
    power_off = step("cold_migration", "PowerOff")
    real = power_off.execute

    def undefined_afterwards(**arguments: Any) -> bool:
        was_running = bool(real(**arguments))
        hypervisor.undefine(server)
        return was_running

    with mock.patch.object(power_off, "execute", undefined_afterwards):
        migration = world.migrate("web1")
    assert (migration.outcome, migration.phase) == ("reverted", "closed")
    assert "somebody undefined it" in str(migration.error)
    assert world.look() == before
    with world.database.reading() as session:
        told = [one.text for one in moves.events(session, migration.uuid) if one.kind == "defined-again"]
    assert told == ["somebody had undefined web1 on kvm1: it was defined again"]
