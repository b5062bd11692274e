"""A worker dies before each of its writes in turn; whoever comes next carries on as if nothing had been."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import update

from hostler.jobboard.board import Board
from hostler.jobboard.leg import End
from hostler.jobboard.tether import Tether
from hostler.records.database import Database
from hostler.records.models import AtomRow
from tests.functional.jobboard.yard import FLOW, HOST_OF, HOSTS, PLACES, STEPS, Killed, Script, Yard, told

NAMES = [name for name, _ in STEPS]


class Deaths:
    """Ends the process before its k-th write; 0 never. Counts the writes."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def write(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed(f"before write {self.at}")


@contextmanager
def dying(deaths: Deaths) -> Iterator[None]:
    """Let the process die before a write: of a step's state, of the records, or to the board."""
    writes = [
        (Board, "hand_over"),
        (Board, "consume"),
        (Board, "park"),
        (Database, "transaction"),
        (Database, "connection"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in writes:
            real = getattr(owner, name)

            def dies(*arguments: Any, _real: Any = real, **keywords: Any) -> Any:
                deaths.write()
                return _real(*arguments, **keywords)

            patch.setattr(owner, name, dies)
        yield


def run_with_a_death(yard: Yard, migration: str, at: int) -> tuple[int, int]:
    """Take turns; the process dies before write *at* of all, and its lock goes with it. Returns writes and deaths."""
    deaths, dead = Deaths(at), 0
    while jobs := [(host, job) for host in HOSTS for job in yard.board.jobs(host)]:
        for host, job in jobs:
            assert job == migration
            claim = yard.claim(host, job)
            try:
                with dying(deaths):
                    yard.leg(claim).run()
            except Killed:
                dead += 1
                # The session goes, and its lock with it; what else was written stays.
                for name in yard.zookeeper.get_children(yard.board.path("boards", host, job)):
                    yard.zookeeper.delete(yard.board.path("boards", host, job, name))
    return deaths.count, dead


def without_repetition(said: list[str]) -> list[str]:
    """Return the names with each immediate repetition as one: a step that was cut off is carried out again."""
    return [name for number, name in enumerate(said) if number == 0 or said[number - 1] != name]


def check_own_hosts(script: Script) -> None:
    for _, name, host in script.said:
        assert host == HOST_OF[PLACES[name]], f"{name} ran on {host}"


def sweep(yard: Yard, failing: str | None) -> tuple[int, int]:
    """Kill before every write there is; return how many deaths that were and how often a step ran again."""
    repeated = 0
    at = 0
    while True:
        at += 1
        with told(failing={failing} if failing else set()) as script:
            migration = yard.ask()
            writes, dead = run_with_a_death(yard, migration, at)
            executed, reverted = script.order("execute"), script.order("revert")
        upto = NAMES[: NAMES.index(failing) + 1] if failing else NAMES
        check_own_hosts(script)
        assert without_repetition(executed) == upto, f"death before write {at}"
        assert without_repetition(reverted) == (upto[::-1] if failing else []), f"death before write {at}"
        repeated += len(executed) + len(reverted) - len(upto) * (2 if failing else 1)
        row = yard.migration(migration)
        assert (row.phase, row.outcome) == ("closed", "reverted" if failing else "success"), f"write {at}"
        states = yard.states(migration)
        done = "REVERTED" if failing else "SUCCESS"
        assert states == {name: done if name in upto else "PENDING" for name in NAMES}
        assert yard.board.held_instances() == []
        if failing:
            assert yard.instance(migration).task_state is None
        if not dead:
            assert writes < at
            return at - 1, repeated


def test_a_death_before_any_write_changes_nothing_of_what_is_done(yard: Yard) -> None:
    deaths, repeated = sweep(yard, failing=None)
    print(f"forward: {deaths} deaths, {repeated} steps carried out again")
    assert deaths > 2 * len(STEPS)
    assert repeated == len(STEPS), "only a death before the write of its own end repeats a step"


@pytest.mark.parametrize("failing", ["verify", "open"])
def test_a_death_before_any_write_changes_nothing_of_what_is_undone(yard: Yard, failing: str) -> None:
    deaths, repeated = sweep(yard, failing)
    print(f"back from {failing}: {deaths} deaths, {repeated} steps carried out or undone again")
    upto = NAMES.index(failing) + 1
    assert deaths > 4 * upto
    assert repeated == 2 * upto, "only a death before the write of its own end repeats a step or its undo"


# -- cancelled --------------------------------------------------------------------------------------------


def cancel(yard: Yard, migration: str) -> None:
    """Let every step be undone, as a cancellation writes it."""
    with yard.database.transaction() as session:
        row = yard.migration(migration)
        session.execute(update(AtomRow).where(AtomRow.flow_uuid == row.flow_uuid).values(intention="REVERT"))


@pytest.mark.parametrize("turns", range(5))
def test_a_flow_cancelled_at_a_boundary_undoes_exactly_what_succeeded(yard: Yard, turns: int) -> None:
    with told() as script:
        migration = yard.ask()
        for turn in range(turns):
            host = HOSTS[turn % 2]
            if yard.board.jobs(host):
                yard.turn(host, migration)
        executed = script.order("execute")
        if len(executed) == len(NAMES):
            return  # it is finished: nobody cancels it any more
        cancel(yard, migration)
        yard.run()
    assert script.order("execute") == executed
    assert script.order("revert") == executed[::-1]
    check_own_hosts(script)
    assert yard.migration(migration).outcome == "reverted"


def test_a_flow_cancelled_after_a_death_in_a_step_undoes_that_step_too(yard: Yard) -> None:
    def die(_leg: Any) -> None:
        raise Killed

    with told(during={"send": die}) as script:
        migration = yard.ask()
        yard.turn("kvm1", migration)
        yard.turn("kvm2", migration)
        with pytest.raises(Killed):
            yard.leg(yard.claim("kvm1", migration)).run()
        assert yard.states(migration)["send"] == "RUNNING"
        cancel(yard, migration)
        yard.run()
    assert script.order("revert") == ["send", "stop", "open", "claim", "look"]
    check_own_hosts(script)
    assert yard.migration(migration).outcome == "reverted"


# -- the poster dies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before the records", "before the board", "after the board"])
def test_a_poster_that_dies_leaves_a_whole_flow_or_none(
    yard: Yard, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hostler.jobboard import client, posting
    from hostler.jobboard.reconciler import Reconciler
    from hostler.records import moves

    def die(*_arguments: Any, **_keywords: Any) -> None:
        raise Killed

    places = {
        "before the records": (client.fence, "add_event"),
        "before the board": (Board, "post"),
        "after the board": (posting, "mark_posted"),
    }
    with told() as script:
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(*places[when], die)
            yard.ask()
        with yard.database.reading() as session:
            rows = moves.in_phase(session, "posting", "open", "closed")
        if when == "before the records":
            assert rows == []
            return
        (row,) = rows
        assert row.phase == "posting"
        assert yard.instance(row.uuid).task_state == "resize_prep"
        Reconciler(yard.database, yard.board, posting_timeout_s=3600).run()
        assert yard.migration(row.uuid).phase == "posting", "it has its time"
        mended = Reconciler(yard.database, yard.board, posting_timeout_s=0).run()
        yard.run()
        row = yard.migration(row.uuid)
    if when == "after the board":
        assert (row.outcome, script.order("execute")) == ("success", NAMES)
    else:
        assert mended == [f"migration {row.uuid} was never posted and is given up"]
        assert (row.phase, row.outcome, row.status, script.said) == ("closed", "refused", "error", [])
        assert "died" in str(row.error)
        assert yard.instance(row.uuid).task_state is None
        assert yard.atoms(row.uuid) == {}
        assert yard.board.held_instances() == []


def test_a_poster_that_died_leaves_nothing_for_the_one_who_asks_again(yard: Yard) -> None:
    from hostler.jobboard.reconciler import Reconciler

    def die(*_arguments: Any, **_keywords: Any) -> None:
        raise Killed

    yard.announce()
    server = yard.add_server("web")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Board, "post", die)
        yard.client.migrate("web", "kvm2", requested_by="tester")
    Reconciler(yard.database, yard.board, posting_timeout_s=0).run()
    migration = yard.client.migrate("web", "kvm2", requested_by="tester")
    yard.run()
    assert yard.migration(migration).outcome == "success"
    assert yard.instance(migration).host == "kvm2"
    assert yard.instance(migration).uuid == server


def test_a_worker_writes_no_arguments_of_a_flow(any_yard: Yard) -> None:
    # TaskFlow would keep them in a step of its own, and a death in the middle leaves a flow that cannot be loaded.
    with told():
        migration = any_yard.ask()
        row = any_yard.migration(migration)

        def rows() -> dict[str, tuple[Any, Any]]:
            with any_yard.database.reading() as session:
                found = session.query(AtomRow).where(
                    AtomRow.flow_uuid == row.flow_uuid, AtomRow.position == 0
                )
                return {atom.name: (atom.state, atom.results) for atom in found}

        before = rows()
        any_yard.run()
        assert rows() == before


def test_a_leg_that_ends_at_once_gives_its_job_back(yard: Yard) -> None:
    with told() as script:
        migration = yard.ask()
        tether = Tether()
        tether.end()
        assert yard.leg(yard.claim("kvm1", migration), tether).run() is End.GIVEN_BACK
        assert script.said == []
        posting = yard.board.posting("kvm1", migration)
        assert posting is not None
        assert (posting.attempts, posting.flow) == (0, FLOW)
        yard.run()
        assert script.order("execute") == NAMES
