"""No host is named: the best is taken, and the next if it refuses or fails, whoever dies in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from hostler.errors import (
    GroupAffinityViolation,
    HostlerError,
    ImageTransferError,
    ImageUnreadable,
    InstanceInvalidState,
    InstanceIsActive,
    MigrationError,
    MigrationInProgress,
    MigrationPreCheckError,
    NoValidHost,
    OverQuota,
    Refused,
    UnexpectedTaskStateError,
)
from hostler.jobboard.board import Board
from hostler.jobboard.client import Client
from hostler.jobboard.reconciler import Reconciler
from hostler.records import groups, instances, moves, quotas
from hostler.records.models import Host, Instance, Migration
from lab.process import wait_until
from tests.support.at_work import workers
from tests.support.world import World, failing, step


@pytest.fixture
def world(tmp_path: Path, zookeeper_hosts: str) -> Iterator[World]:
    """Four hosts, the server's own among them."""
    made = World(tmp_path, zookeeper_hosts, f"sqlite:///{tmp_path}/hostler.db", hosts=4)
    yield made
    made.close()


@contextmanager
def refusing(
    name: str,
    *hosts: str,
    error: Callable[[], BaseException],
    do: str = "execute",
    flow: str = "cold_migration",
) -> Iterator[None]:
    """Let a step fail on these hosts, or on its way to them, as often as it is asked."""
    task = step(flow, name)
    real = getattr(task, do)

    def fails(*, leg: Any, **arguments: Any) -> Any:
        if leg.migration.dest in hosts:
            raise error()
        return real(leg=leg, **arguments)

    with mock.patch.object(task, do, fails):
        yield


def full() -> ImageTransferError:
    return ImageTransferError(path="/images/web1.qcow2", reason="No space left on device")


def refusal() -> MigrationPreCheckError:
    return MigrationPreCheckError(["it has no bridge br0"], host="kvm2")


def ask(world: World, dest: str | None = None) -> list[Migration]:
    """Move web1; return all attempts."""
    return chain(world, world.migrate("web1", dest).uuid)


def chain(world: World, uuid: str) -> list[Migration]:
    with world.database.reading() as session:
        return moves.attempts(session, moves.get(session, uuid))


def said(world: World, migration: Migration, kind: str) -> list[str]:
    with world.database.reading() as session:
        return [event.text for event in moves.events(session, migration.uuid) if event.kind == kind]


def outcomes(attempts: list[Migration]) -> list[tuple[str, str | None]]:
    return [(one.dest_compute, one.outcome) for one in attempts]


def runs_on(world: World, server: str, host: str) -> bool:
    """Tell whether the server runs on *host* and nowhere else, and the records know it."""
    running = [one.name for one in world.hosts.values() if one.hypervisor.power_state(server).active]
    return running == [host] and world.instance(server).host == host


def test_the_best_host_gets_it_and_the_history_says_of_which(world: World) -> None:
    server = world.add_server()
    (only,) = ask(world)
    assert outcomes([only]) == [("kvm2", "success")]
    assert said(world, only, "scheduled") == ["kvm2 was chosen; it could have been kvm3, kvm4"]
    assert runs_on(world, server, "kvm2")


def test_a_host_without_the_bridge_is_never_asked(world: World) -> None:
    world.add_server()
    world.hosts["kvm2"].hypervisor.bridges.clear()
    world.hosts["kvm3"].hypervisor.machines = {"virt"}
    for name in ("kvm2", "kvm3"):
        world.report(name)
    assert outcomes(ask(world)) == [("kvm4", "success")]


def test_a_destination_that_refuses_is_left_for_the_next(world: World) -> None:
    server = world.add_server()
    with refusing("CheckDestination", "kvm2", error=refusal):
        first, second = ask(world)
    assert outcomes([first, second]) == [("kvm2", "refused"), ("kvm3", "success")]
    assert (first.attempt, second.attempt, second.retry_of) == (1, 2, first.uuid)
    assert second.request_id == first.request_id
    assert second.excluded == {"kvm2": "kvm2: it has no bridge br0"}
    assert said(world, first, "rescheduled") == [f"goes on with kvm3, as {second.uuid}"]
    assert runs_on(world, server, "kvm3")
    assert world.hosts["kvm1"].hypervisor.booted[server] == 1


def test_a_copy_that_fails_is_tried_elsewhere_once_the_guest_runs_again(world: World) -> None:
    server = world.add_server()
    before = world.look_at("kvm2")
    ran: list[bool] = []

    def failure() -> ImageTransferError:
        ran.append(world.hosts["kvm1"].hypervisor.power_state(server).active)
        return full()

    inspected: list[bool] = []
    inspect = step("cold_migration", "InspectInstance").execute

    def look(**arguments: Any) -> Any:
        inspected.append(world.hosts["kvm1"].hypervisor.power_state(server).active)
        return inspect(**arguments)

    with (
        refusing("CopyImages", "kvm2", error=failure),
        mock.patch.object(step("cold_migration", "InspectInstance"), "execute", look),
    ):
        attempts = ask(world)
    assert outcomes(attempts) == [("kvm2", "reverted"), ("kvm3", "success")]
    assert (ran, inspected) == ([False], [True, True])
    assert runs_on(world, server, "kvm3")
    assert world.look_at("kvm2") == before


def test_a_copy_that_does_not_verify_is_one_that_failed(world: World) -> None:
    world.add_server()
    with refusing("VerifyImages", "kvm2", error=lambda: MigrationError("the disk lies")):
        assert outcomes(ask(world)) == [("kvm2", "reverted"), ("kvm3", "success")]


def test_after_max_attempts_the_server_stays(world: World) -> None:
    server = world.add_server()
    before = world.look()
    with refusing("CopyImages", "kvm2", "kvm3", "kvm4", error=full):
        attempts = ask(world)
    assert outcomes(attempts) == [("kvm2", "reverted"), ("kvm3", "reverted"), ("kvm4", "reverted")]
    assert str(attempts[-1].error).endswith(
        "No space left on device; 3 hosts were tried, which is max_attempts"
    )
    assert attempts[-1].hint == "hostler server migrate --dry-run -- web1"
    assert world.instance(server).task_state is None
    assert world.look() == before


def test_when_no_host_is_left_it_says_why_of_each(world: World) -> None:
    world.add_server()
    with world.database.transaction() as session:
        session.get_one(Host, "kvm4").disabled_reason = "repair"
    with refusing("ClaimResources", "kvm2", "kvm3", error=refusal):
        attempts = ask(world)
    assert outcomes(attempts) == [("kvm2", "refused"), ("kvm3", "refused")]
    assert "kvm4: it takes no new servers: repair" in str(attempts[-1].error)
    assert said(world, attempts[-1], "given-up")


NOT_THE_DESTINATION = [
    ("InspectInstance", lambda: MigrationPreCheckError(["it has a host device"], host="kvm1")),
    ("PowerOff", lambda: MigrationError("libvirt says no")),
    ("CopyImages", lambda: ImageUnreadable(path="/images/web1.qcow2", reason="it cannot be read")),
    ("CopyImages", lambda: InstanceIsActive(instance="web1", host="kvm1")),
    ("HandOver", lambda: MigrationError("the CAS lost")),
]


@pytest.mark.parametrize(("name", "error"), NOT_THE_DESTINATION)
def test_what_is_not_the_destinations_fault_is_tried_nowhere_else(
    world: World, name: str, error: Callable[[], HostlerError]
) -> None:
    world.add_server()
    before = world.look()
    with refusing(name, "kvm2", "kvm3", error=error):
        assert len(ask(world)) == 1
    assert world.look() == before


def test_a_named_host_is_the_only_one(world: World) -> None:
    world.add_server()
    with refusing("CheckDestination", "kvm2", error=refusal):
        assert outcomes(ask(world, "kvm2")) == [("kvm2", "refused")]


def test_what_was_cancelled_is_tried_nowhere_else(world: World) -> None:
    world.add_server()

    def failure() -> ImageTransferError:
        world.client.cancel("web1", requested_by="alice", reason="changed my mind")
        return full()

    with refusing("CopyImages", "kvm2", error=failure):
        (only,) = ask(world)
    assert (only.outcome, only.status) == ("reverted", "cancelled")


def test_to_cancel_any_attempt_is_to_cancel_the_one_under_way(world: World) -> None:
    server = world.add_server()
    first = world.client.migrate("web1", requested_by="tester")

    def failure() -> ImageTransferError:
        world.client.cancel(first, requested_by="alice", reason="changed my mind")
        return full()

    with (
        refusing("CheckDestination", "kvm2", error=refusal),
        refusing("CopyImages", "kvm3", error=failure),
    ):
        world.run()
    attempts = chain(world, first)
    assert [(one.dest_compute, one.status) for one in attempts] == [("kvm2", "error"), ("kvm3", "cancelled")]
    assert runs_on(world, server, "kvm1")


def test_what_an_operator_reverts_is_tried_nowhere_else(world: World) -> None:
    world.add_server()
    number = world.client.migrate("web1", requested_by="tester")
    undo = step("cold_migration", "RenameInstanceDir")
    with (
        refusing("CopyImages", "kvm2", error=full),
        failing(undo, MigrationError("the undo broke"), when="before", method="revert"),
    ):
        world.run()
        assert world.migration(number).phase == "parked"
        world.client.revert(number, requested_by="alice", reason="enough")
        world.run()
    assert outcomes(chain(world, number)) == [("kvm2", "reverted")]


def test_a_destination_that_dies_is_left_for_the_next(world: World) -> None:
    server = world.add_server()
    number = world.client.migrate("web1", requested_by="tester")

    def dies(**_: Any) -> Any:
        world.cut_power("kvm2")
        raise_dead()

    with (
        mock.patch.object(step("cold_migration", "CheckDestination"), "execute", dies),
        contextlib.suppress(Dead),
    ):
        world.run()
    for sign in world.board.client.get_children(world.board.path("boards", "kvm2", number)):
        world.board.client.delete(world.board.path("boards", "kvm2", number, sign))
    world.board.client.delete(world.board.path("workers", "kvm2"))
    world.run()
    attempts = chain(world, number)
    assert outcomes(attempts) == [("kvm2", "reverted"), ("kvm3", "success")]
    assert attempts[1].excluded == {"kvm2": "kvm2 has had no worker for too long"}
    world.power_on("kvm2")
    assert runs_on(world, server, "kvm3")


class Dead(BaseException):
    """The process is gone."""


def raise_dead() -> None:
    raise Dead


@pytest.mark.parametrize("where", ["before consume", "after consume", "before post"])
def test_a_death_between_the_next_attempts_record_and_its_board_is_mended(world: World, where: str) -> None:
    server = world.add_server()
    number = world.client.migrate("web1", requested_by="tester")
    when, name = where.split()
    real = getattr(Board, name)
    alive = [True]

    def deadly(*arguments: Any, **named: Any) -> Any:
        if alive[0] and when == "before":
            alive[0] = False
            raise Dead
        result = real(*arguments, **named)
        if alive[0]:
            alive[0] = False
            raise Dead
        return result

    with (
        refusing("CheckDestination", "kvm2", error=refusal),
        mock.patch.object(Board, name, deadly),
        pytest.raises(Dead),
    ):
        world.run()
    first, second = chain(world, number)
    assert (first.phase, second.phase) == ("closed", "posting")
    assert world.instance(server).task_state == "resize_prep"
    with pytest.raises(MigrationInProgress):  # nobody gets hold of the server meanwhile
        world.client.migrate("web1", "kvm4", requested_by="rival")
    for host in world.hosts:
        for job in world.board.jobs(host):
            for sign in world.board.client.get_children(world.board.path("boards", host, job)):
                world.board.client.delete(world.board.path("boards", host, job, sign))
    world.run()
    Reconciler(world.database, world.board, 0.0).run()
    world.run()
    assert outcomes(chain(world, number)) == [("kvm2", "refused"), ("kvm3", "success")]
    assert runs_on(world, server, "kvm3")


def test_a_group_keeps_its_servers_apart_with_and_without_a_named_host(world: World) -> None:
    server, other = world.add_server("web1"), world.add_server("web2")
    with world.database.transaction() as session:
        groups.create(session, "web", "anti-affinity")
        for name in ("web1", "web2"):
            groups.add_member(session, "web", name)
    assert world.migrate("web1", "kvm2").outcome == "success"
    with pytest.raises(GroupAffinityViolation, match="kvm2: group 'web' keeps it apart from 'web1'"):
        world.client.migrate("web2", "kvm2", requested_by="tester")
    found = {one.host: one.reason for one in world.client.candidates("web2")}
    assert found["kvm2"] == "group 'web' keeps it apart from 'web1', which has a place there"
    assert found["kvm3"] is None
    assert world.migrate("web2", None).dest_compute == "kvm3"
    assert runs_on(world, server, "kvm2")
    assert runs_on(world, other, "kvm3")


def test_a_member_that_arrives_meanwhile_is_seen_by_the_claim(world: World) -> None:
    world.add_server("web1")
    other = world.add_server("web2")
    with world.database.transaction() as session:
        groups.create(session, "web", "anti-affinity")
        for name in ("web1", "web2"):
            groups.add_member(session, "web", name)
    number = world.client.migrate("web1", requested_by="tester")
    with world.database.transaction() as session:
        session.get_one(Instance, other).host = "kvm2"
    world.run()
    assert outcomes(chain(world, number)) == [("kvm2", "refused"), ("kvm3", "success")]


def test_nothing_is_asked_for_when_no_host_can_have_it(world: World) -> None:
    server = world.add_server()
    before = world.look()
    for name in ("kvm2", "kvm3", "kvm4"):
        world.hosts[name].hypervisor.bridges.clear()
        world.report(name)
    with pytest.raises(NoValidHost, match="kvm4: it cannot connect bridge:br0") as refused:
        world.client.migrate("web1", requested_by="tester")
    assert isinstance(refused.value, Refused)
    assert world.look() == before
    assert world.instance(server).task_state is None


def test_real_workers_pass_it_on_until_a_host_takes_it(world: World, tmp_path: Path) -> None:
    server = world.add_server()
    world.hosts["kvm3"].hypervisor.bridges.clear()  # told by its worker when it starts
    with workers(world, tmp_path), refusing("OpenReceiver", "kvm2", error=full):
        number = world.client.migrate("web1", requested_by="tester")
        wait_until(lambda: chain(world, number)[-1].outcome == "success", "it has arrived", timeout_s=60)
    assert outcomes(chain(world, number)) == [("kvm2", "reverted"), ("kvm4", "success")]
    assert chain(world, number)[1].requested_by == "tester"
    assert runs_on(world, server, "kvm4")


def resized(world: World, dest: str | None = None) -> list[Migration]:
    """Resize web1; return all attempts."""
    return chain(world, world.resize("web1", "large", dest).uuid)


def test_a_resize_goes_to_the_best_host_and_its_own_is_one_of_them(world: World) -> None:
    server = world.add_server(sized=True)
    (only,) = resized(world)
    assert outcomes([only]) == [("kvm2", "success")]
    assert said(world, only, "scheduled") == ["kvm2 was chosen; it could have been kvm3, kvm4"]
    assert runs_on(world, server, "kvm2")
    found = world.client.candidates("web1", "small")
    assert {one.host: one.reason for one in found} == dict.fromkeys(world.hosts)


def test_a_resize_stays_where_it_is_if_no_other_host_will_do(world: World) -> None:
    server = world.add_server(sized=True)
    with world.database.transaction() as session:
        for name in ("kvm2", "kvm3", "kvm4"):
            session.get_one(Host, name).disabled_reason = "repair"
        # room for what it takes more, not for a whole second one
        session.get_one(Host, "kvm1").memory_mb = 256
    assert outcomes(resized(world)) == [("kvm1", "success")]
    assert runs_on(world, server, "kvm1")


def test_no_host_for_a_resize_is_refused_with_each_reason_and_how_to_look(world: World) -> None:
    world.add_server(sized=True)
    world.conf.set_override("allow_resize_to_same_host", False)
    with world.database.transaction() as session:
        for name in ("kvm2", "kvm3", "kvm4"):
            session.get_one(Host, name).memory_mb = 128
    before = world.look()
    with Client(world.conf) as client, pytest.raises(NoValidHost) as refused:
        client.resize("web1", "large", requested_by="tester")
    assert "kvm1: the server is on it" in str(refused.value)
    assert "kvm2: it has not enough memory: 256 MiB needed, 128 MiB free" in str(refused.value)
    assert refused.value.hint == "hostler server resize --flavor large --dry-run -- web1"
    assert world.look() == before


def test_a_resize_that_is_refused_there_goes_on_elsewhere_with_the_new_size(world: World) -> None:
    server = world.add_server(sized=True)
    with world.database.transaction() as session:
        session.get_one(Host, "kvm3").memory_mb = 128  # enough for what it is, not for what it is to be
    with refusing("CheckDestination", "kvm2", error=refusal, flow="resize"):
        first, second = resized(world)
    assert outcomes([first, second]) == [("kvm2", "refused"), ("kvm4", "success")]
    assert second.new_flavor == first.new_flavor
    assert (world.instance(server).vcpus, world.instance(server).memory_mb) == (4, 256)
    assert runs_on(world, server, "kvm4")


def test_after_the_last_host_a_resize_says_how_to_look(world: World) -> None:
    world.add_server(sized=True)
    before = world.look()
    hosts_there = ("kvm1", "kvm2", "kvm3", "kvm4")
    with refusing("CheckDestination", *hosts_there, error=refusal, flow="resize"):
        attempts = resized(world)
    assert [one.outcome for one in attempts] == ["refused"] * 3
    assert attempts[-1].hint == "hostler server resize --flavor large --dry-run -- web1"
    assert world.look() == before


def test_a_resize_to_a_host_that_is_named_minds_the_group_at_once(world: World) -> None:
    server = world.add_server(sized=True)
    with world.database.transaction() as session:
        groups.create(session, "web", "anti-affinity")
        groups.add_member(session, "web", server)
        other = Instance(uuid="other", name="web2", host="kvm2", vm_state="active", power_state="running")
        other.vcpus, other.memory_mb = 1, 64
        session.add(other)
        session.flush()
        groups.add_member(session, "web", "other")
    before = world.look()
    with pytest.raises(GroupAffinityViolation, match="web2") as refused:
        world.client.resize("web1", "large", "kvm2", requested_by="tester")
    assert refused.value.hint == "hostler group show web"
    assert world.look() == before
    assert outcomes(resized(world)) == [("kvm3", "success")]


def test_over_quota_is_refused_before_a_resize_is_written_down(world: World) -> None:
    server = world.add_server(sized=True)
    with world.database.transaction() as session:
        session.get_one(Instance, server).project_id = "shop"
        quotas.set_limits(session, "shop", {"cores": 3}, force=False)
    before = world.look()
    for ask_for in (
        lambda: world.client.resize("web1", "large", requested_by="tester"),
        lambda: world.client.dry_run("web1", "kvm2", flavor="large", requested_by="tester"),
    ):
        with pytest.raises(OverQuota, match="3 vCPUs more needed, 1 of 3 used") as refused:
            ask_for()
        assert (refused.value.exit_code, refused.value.hint) == (3, "hostler quota show shop")
    assert world.look() == before


@pytest.mark.parametrize("method", ["migrate", "resize", "revert"])
def test_a_race_for_the_server_that_is_lost_is_a_refusal(world: World, method: str) -> None:
    server = world.add_server(sized=True)
    if method == "revert":
        world.migrate("web1", "kvm2")
    before = world.look()
    asks: dict[str, Callable[[], str]] = {
        "migrate": lambda: world.client.migrate("web1", requested_by="tester"),
        "resize": lambda: world.client.resize("web1", "large", requested_by="tester"),
        "revert": lambda: world.client.revert_resize(
            "web1", requested_by="tester", reason="slow", drop_writes=True
        ),
    }

    def beaten(*_: Any, **__: Any) -> None:
        raise UnexpectedTaskStateError(instance=server, actual="resize_prep", expected="None")

    with mock.patch.object(instances, "save", beaten), pytest.raises(InstanceInvalidState) as refused:
        asks[method]()
    assert refused.value.exit_code == 3
    assert f"is resize_prep: cannot {method} it" in str(refused.value)
    assert world.look() == before
