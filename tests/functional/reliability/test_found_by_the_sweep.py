"""What the sweep has found, told as what an operator would have met."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from hostler.jobboard import reboot
from hostler.jobboard.reconciler import Reconciler
from tests.support.world import World


def test_a_confirmation_that_never_came_to_a_board_is_asked_for_again(world: World) -> None:
    world.add_server()
    number = world.migrate("web1").uuid
    for _ in range(2):
        with (
            mock.patch("hostler.jobboard.resized.put_on_board", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            world.client.confirm("web1", requested_by="tester")
        Reconciler(world.database, world.board, posting_timeout_s=0).run()
        migration = world.migration(number)
        assert (migration.phase, migration.status, migration.flow_name) == (
            "closed",
            "finished",
            "cold_migration",
        )
    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert world.migration(number).status == "confirmed"


def test_a_host_that_reboots_while_its_server_is_confirmed_starts_it(world: World, tmp_path: Path) -> None:
    server = world.add_server()
    number = world.migrate("web1").uuid
    world.client.confirm("web1", requested_by="tester")
    world.cut_power("kvm2")
    world.power_on("kvm2")
    hypervisor = world.hosts["kvm2"].hypervisor
    assert not hypervisor.power_state(server).active
    assert reboot.restart_unconfirmed(world.database, hypervisor, "kvm2", str(tmp_path / "run")) == [server]
    world.run()
    assert world.migration(number).status == "confirmed"
    assert hypervisor.power_state(server).active
