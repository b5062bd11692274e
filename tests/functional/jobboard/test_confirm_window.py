"""A migration that nobody confirms is confirmed by itself, if its guest is well."""

from __future__ import annotations

import datetime
import threading
from unittest import mock

import pytest
from sqlalchemy import update

from hostler.errors import ServerUnreachable
from hostler.jobboard import confirm_window
from hostler.jobboard.confirm_window import ConfirmWindow
from hostler.records import moves
from hostler.records.models import Migration, now
from lab.process import wait_until
from tests.support.world import World


def window(world: World, seconds: int = 60) -> ConfirmWindow:
    return ConfirmWindow(world.database, world.board, world.hosts["kvm2"].hypervisor, "kvm2", seconds)


def moved(world: World, *, running: bool = True, ago_s: int = 61) -> tuple[str, str]:
    """Move web1; it was finished some time ago."""
    server = world.add_server(running=running)
    number = world.migrate("web1").uuid
    with world.database.transaction() as session:
        session.execute(update(Migration).values(finished_at=now() - datetime.timedelta(seconds=ago_s)))
    return server, number


def told(world: World, number: str) -> list[str]:
    with world.database.reading() as session:
        return [event.text for event in moves.events(session, number) if event.kind == "not-confirmed"]


def test_a_guest_that_is_well_is_confirmed_after_its_time(world: World) -> None:
    server, number = moved(world)
    world.hosts["kvm2"].hypervisor.agents[server] = True
    assert window(world, 0).run() == []
    assert window(world, 120).run() == []
    assert window(world).run() == [number]
    assert window(world).run() == []
    world.run()
    assert world.migration(number).status == "confirmed"
    with world.database.reading() as session:
        said = [event.text for event in moves.events(session, number)]
    assert "confirm asked for by resize_confirm_window" in said


def test_a_server_that_was_off_need_not_run(world: World) -> None:
    _, number = moved(world, running=False)
    assert window(world).run() == [number]


def test_what_is_not_well_is_told_once_and_confirmed_when_it_is(world: World) -> None:
    server, number = moved(world)
    hypervisor = world.hosts["kvm2"].hypervisor
    silent = "not confirmed by itself: the guest's agent has not answered for 5 s"
    off = "not confirmed by itself: the guest ran before it moved, and is shutdown"
    hypervisor.agents[server] = False
    for _ in range(3):
        assert window(world).run() == []
    assert told(world, number) == [silent]
    hypervisor.destroy(server)
    for _ in range(2):
        assert window(world).run() == []
    assert told(world, number) == [silent, off]
    hypervisor.start(server)
    hypervisor.agents[server] = True
    assert window(world).run() == [number]


def test_a_source_without_a_worker_is_told_too(world: World) -> None:
    _, number = moved(world)
    world.board.client.delete(world.board.path("workers", "kvm1"))
    for _ in range(2):
        assert window(world).run() == []
    assert told(world, number) == ["not confirmed by itself: no worker is alive on kvm1"]


def test_a_server_that_goes_back_is_not_confirmed(world: World) -> None:
    moved(world)
    world.client.revert_resize("web1", requested_by="alice", reason="slow", drop_writes=True)
    assert window(world).run() == []


class Deaf:
    """An agent that does not answer until it is told to."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()

    def __call__(self, _uuid: str, _timeout_s: float) -> bool:
        self.asked.set()
        assert self.answer.wait(30)
        return True


def test_an_agent_that_does_not_answer_holds_nobody_up(world: World) -> None:
    _, number = moved(world)
    deaf = Deaf()
    looking = window(world)
    with (
        mock.patch.object(world.hosts["kvm2"].hypervisor, "agent_answers", deaf),
        looking.at_work(interval_s=60),
    ):
        # the block, which is the worker, goes on while the agent is waited for
        assert deaf.asked.wait(30)
        assert world.migration(number).status == "finished"
        deaf.answer.set()
        wait_until(lambda: world.migration(number).status == "confirming", 30)
    assert "confirm" not in [thread.name for thread in threading.enumerate()]


def test_it_ends_with_its_worker_and_asks_for_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, number = moved(world)
    deaf = Deaf()
    monkeypatch.setattr(confirm_window, "AGENT_TIMEOUT_S", -0.9)  # how long the end waits for the agent
    monkeypatch.setattr(world.hosts["kvm2"].hypervisor, "agent_answers", deaf)
    with window(world).at_work(interval_s=60):
        assert deaf.asked.wait(30)
    (left,) = [thread for thread in threading.enumerate() if thread.name == "confirm"]
    deaf.answer.set()
    left.join(30)
    assert not left.is_alive()
    assert world.migration(number).status == "finished"


def test_a_database_that_is_away_is_looked_at_again(world: World) -> None:
    _, number = moved(world)
    looking = window(world)
    away = mock.Mock(side_effect=ServerUnreachable(what="the database", where="db", reason="gone"))
    with mock.patch.object(looking, "_due", away), looking.at_work(interval_s=0.01):
        wait_until(lambda: away.call_count > 2, 30)
    with window(world).at_work(interval_s=60):
        wait_until(lambda: world.migration(number).status == "confirming", 30)
