"""Other servers of the host come and go while one is looked at."""

from __future__ import annotations

from hostler.objects import Domain
from tests.support.world import World


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
