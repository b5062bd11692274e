"""Cancel, retry, revert and skip: each refused where it would lose data, each recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

import pytest
from kazoo.exceptions import ConnectionLoss

from hostler.errors import DestinationDiskExists, InstanceInvalidState, MigrationError, Refused
from hostler.flows import shape_of
from hostler.jobboard.board import Board
from hostler.jobboard.leg import End
from hostler.jobboard.reconciler import Reconciler
from hostler.records import moves, rates
from hostler.records.models import Progress, Receiver
from lab.process import wait_until
from tests.support.world import World, failing, step, wished

NAMES = [one.name for one in shape_of("cold_migration")]
BEFORE_HAND_OVER = NAMES[: NAMES.index("HandOver")]


def events(world: World, number: str, kind: str) -> list[str]:
    with world.database.reading() as session:
        return [event.text for event in moves.events(session, number) if event.kind == kind]


def park(world: World, name: str) -> str:
    """Make web1's migration fail at its hand-over, and the undo of *name* fail, too."""
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    with (
        failing(step("cold_migration", "HandOver"), MigrationError("the CAS lost"), when="before"),
        failing(
            step("cold_migration", name), MigrationError("the undo broke"), when="before", method="revert"
        ),
    ):
        world.run()
    assert world.migration(number).phase == "parked"
    return number


def test_a_queued_migration_is_cancelled_before_it_begins(world: World) -> None:
    world.add_server()
    before = world.look()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    world.client.cancel("web1", requested_by="alice", reason="wrong host")
    world.run()
    migration = world.migration(number)
    assert (migration.outcome, migration.status) == ("reverted", "cancelled")
    assert migration.error == "it was cancelled: wrong host"
    assert events(world, number, "cancel") == ["alice: wrong host"]
    assert world.look() == before


@pytest.mark.parametrize("name", BEFORE_HAND_OVER)
def test_a_wish_at_any_step_undoes_everything(world: World, name: str) -> None:
    server = world.add_server()
    before = world.look()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    task = step("cold_migration", name)
    with wished(world, number, task):
        world.run()
    migration = world.migration(number)
    assert (migration.outcome, migration.status) == ("reverted", "cancelled")
    world.board.forget_wish(number)
    assert world.look() == before
    assert world.hosts["kvm2"].hypervisor.booted.get(server, 0) == 0


def test_a_cancel_stands_though_zookeeper_is_away_just_then(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.add_server()
    before = world.look()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    with mock.patch.object(Board, "wish", side_effect=ConnectionLoss):
        assert world.client.cancel("web1", requested_by="alice", reason="wrong host") == number
    assert "the wish is on record and will be heeded, but ZooKeeper does not answer" in caplog.text
    assert world.board.wishes() == []
    # whoever compares records and boards next puts it up for the worker that copies
    Reconciler(world.database, world.board, posting_timeout_s=60).run()
    assert world.board.wishes() == [number]
    world.run()
    assert (world.migration(number).outcome, world.migration(number).status) == ("reverted", "cancelled")
    Reconciler(world.database, world.board, posting_timeout_s=60).run()
    assert world.board.wishes() == []
    assert world.look() == before


def test_a_cancel_behind_the_hand_over_is_refused(world: World) -> None:
    world.add_server()
    world.migrate("web1")
    with pytest.raises(InstanceInvalidState):
        world.client.cancel("web1", requested_by="alice", reason="too late")


@pytest.mark.parametrize("name", BEFORE_HAND_OVER)
def test_a_failed_undo_is_parked_and_a_retry_finishes_it(world: World, name: str) -> None:
    world.add_server()
    before = world.look()
    if type(step("cold_migration", name)).revert.__qualname__.startswith("Task."):
        pytest.skip("the step has nothing to undo")
    number = park(world, name)
    migration = world.migration(number)
    assert "the undo broke" in str(migration.error)
    assert "the CAS lost" in str(migration.error)
    assert migration.hint == f"hostler migration retry {number}"
    assert world.board.all_parked() == [number]
    world.client.retry(number, requested_by="bob")
    world.run()
    assert world.migration(number).outcome == "reverted"
    assert world.look() == before


def test_what_a_step_was_refused_for_says_what_to_type(world: World) -> None:
    world.add_server()
    refusal = DestinationDiskExists(host="kvm2", path="/x")
    with failing(step("cold_migration", "OpenReceiver"), refusal, when="before"):
        migration = world.migrate("web1")
    assert (migration.outcome, migration.error, migration.hint) == ("refused", str(refusal), refusal.hint)
    assert world.migrate("web1").hint is None


def test_an_undo_that_failed_says_what_to_type_before_the_retry(world: World) -> None:
    world.add_server()
    cause = DestinationDiskExists(host="kvm2", path="/x")
    with (
        failing(step("cold_migration", "HandOver"), MigrationError("the CAS lost"), when="before"),
        failing(step("cold_migration", "OpenReceiver"), cause, when="before", method="revert"),
    ):
        parked = world.migrate("web1")
    assert parked.hint == f"{cause.hint}; then: hostler migration retry {parked.uuid}"


def test_a_step_without_a_way_back_says_what_to_type_before_the_retry(world: World) -> None:
    world.add_server()
    cause = DestinationDiskExists(host="kvm2", path="/x")
    world.hosts["kvm2"].hypervisor.fail_next("resume", cause, times=3)
    parked = world.migrate("web1")
    assert parked.hint == f"{cause.hint}; then: hostler migration retry {parked.uuid}"


def test_of_two_retries_one_acts(world: World) -> None:
    world.add_server()
    number = park(world, "MigratePorts")
    world.client.retry(number, requested_by="bob")
    with pytest.raises(InstanceInvalidState):
        world.client.retry(number, requested_by="alice")


def test_a_step_that_guards_data_is_not_skipped(world: World) -> None:
    world.add_server()
    number = park(world, "RenameInstanceDir")
    with pytest.raises(Refused):
        world.client.skip(number, "RenameInstanceDir", requested_by="bob", reason="I know better")
    assert world.migration(number).phase == "parked"


def test_a_step_that_guards_nothing_is_skipped_with_a_reason(world: World) -> None:
    server = world.add_server()
    number = park(world, "ClaimResources")
    with pytest.raises(Refused):
        world.client.skip(number, "PowerOff", requested_by="bob", reason="another step")
    world.client.skip(number, "ClaimResources", requested_by="bob", reason="the claim is gone")
    world.run()
    assert world.migration(number).outcome == "reverted"
    assert events(world, number, "skip") == ["ClaimResources skipped by bob: the claim is gone"]
    assert world.hosts["kvm1"].hypervisor.power_state(server).active


def test_a_parked_start_is_tried_again(world: World) -> None:
    server = world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    hypervisor = world.hosts["kvm2"].hypervisor
    hypervisor.fail_next("resume", MigrationError("qemu hangs"), times=3)
    ends = world.run()
    assert ends[-1] == ("kvm2", End.PARKED)
    with pytest.raises(InstanceInvalidState):
        world.client.revert(number, requested_by="bob", reason="the guest was handed over")
    world.client.retry(number, requested_by="bob", reason="mended")
    world.run()
    assert world.migration(number).outcome == "success"
    assert hypervisor.power_state(server).active


class Died(BaseException):
    """The worker's process is gone."""


def test_a_job_that_kills_its_worker_again_and_again_is_parked(world: World) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    task = step("cold_migration", "PowerOff")
    deaths = 0
    while world.migration(number).phase != "parked":
        assert deaths <= 3
        with failing(task, Died(), when="before"):
            try:
                world.run()
            except Died:
                deaths += 1
    assert deaths == 3
    assert "died 3 times" in str(world.migration(number).error)
    world.client.retry(number, requested_by="bob")
    world.run()
    assert world.migration(number).outcome == "success"


def test_a_copy_that_gets_further_each_time_is_not_given_up(world: World) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    task = step("cold_migration", "CopyImages")

    def copied(done_bytes: int) -> None:
        with world.database.transaction() as session:
            session.merge(
                Progress(
                    migration_uuid=number,
                    name="0",
                    path="/disk",
                    done_bytes=done_bytes,
                    total_bytes=1 << 40,
                    rate_bytes_per_s=0,
                )
            )

    for gib in range(1, 7):
        with (
            failing(task, Died(), when="before", also=lambda gib=gib: copied(gib << 30)),  # type: ignore[misc]
            pytest.raises(Died),
        ):
            world.run()
    world.run()
    assert world.migration(number).outcome == "success"


def test_a_paused_copy_waits_until_it_is_resumed(world: World) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    with world.database.transaction() as session:
        rates.pause(session, number, who="alice", reason="office hours")
    with waiting_copy(world, number) as copied:
        assert copied() == 0
        with world.database.transaction() as session:
            rates.resume(session, number, who="bob")
    assert world.migration(number).outcome == "success"
    assert copied() > 0


@contextmanager
def waiting_copy(world: World, number: str) -> Iterator[Callable[[], int]]:
    """Run the workers until a copy waits; it gives how many bytes it has carried. They end with the block."""

    def copied() -> int:
        with world.database.reading() as session:
            return moves.copied_bytes(session, number)

    def waits() -> bool:
        with world.database.reading() as session:
            rows = moves.progress(session, number)
            receiver = session.get(Receiver, number)
            return bool(rows) and receiver is not None and receiver.sending

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.run)
        wait_until(waits, "the copy to wait", 30)
        yield copied
        running.result(60)
