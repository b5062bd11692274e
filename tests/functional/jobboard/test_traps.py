"""What TaskFlow's own conductor and board do wrong, and ours must not; and what ends a leg."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError

from hostler.errors import Fenced, Interrupted, SessionLost, Stopping, Unreachable
from hostler.jobboard import leg as leg_module
from hostler.jobboard.boundary import Boundary
from hostler.jobboard.jobs import Posting
from hostler.jobboard.leg import End
from hostler.jobboard.reconciler import Reconciler
from hostler.jobboard.tether import Tether
from hostler.records import fence, moves
from hostler.records.models import AtomRow, Base, Event, Fence, FlowRow
from hostler.tasks.base import Leg
from tests.functional.jobboard.yard import HOST_OF, PLACES, STEPS, Killed, StepFailed, Yard, told

NAMES = [name for name, _ in STEPS]


def dump(yard: Yard) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that is on record."""
    with yard.database.reading() as session:
        return {
            table.name: sorted(map(str, session.execute(select(table)).all()))  # type: ignore[misc]
            for table in Base.metadata.sorted_tables
        }


# -- whose turn it is -------------------------------------------------------------------------------------


def test_the_flow_changes_hosts_at_each_boundary(any_yard: Yard) -> None:
    with told() as script:
        any_yard.ask()
        ends = any_yard.run()
    assert [host for host, _ in ends] == ["kvm1", "kvm2", "kvm1", "kvm2"]
    assert [end for _, end in ends] == [End.HANDED_OVER] * 3 + [End.FINISHED]
    assert script.said == [("execute", name, HOST_OF[PLACES[name]]) for name in NAMES]


def test_the_way_back_changes_hosts_too(any_yard: Yard) -> None:
    with told(failing={"verify"}) as script:
        migration = any_yard.ask()
        ends = any_yard.run()
    assert [host for host, _ in ends] == ["kvm1", "kvm2", "kvm1", "kvm2", "kvm1", "kvm2", "kvm1"]
    assert script.order("revert") == NAMES[::-1]
    assert all(host == HOST_OF[PLACES[name]] for _, name, host in script.said)
    row = any_yard.migration(migration)
    assert (row.phase, row.outcome, row.status, row.error) == (
        "closed",
        "reverted",
        "error",
        "verify was told to fail",
    )
    assert any_yard.instance(migration).task_state is None


def test_a_listener_that_fails_is_no_reason_to_cross_the_boundary(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TaskFlow swallows what a listener raises: without one the source would do the destination's steps.
    called = []
    real = Boundary.passed

    def passed(self: Boundary, state: str, details: Any) -> None:
        called.append((state, details["task_name"]))
        real(self, state, details)

    monkeypatch.setattr(Boundary, "passed", passed)
    with told(failing={"open"}):
        yard.ask()
        yard.run()
    assert called == [
        *(("SUCCESS", name) for name in ("look", "claim")),
        *(("REVERTED", name) for name in ("open", "claim", "look")),
    ]


# -- an undo that fails -----------------------------------------------------------------------------------


def test_a_failed_undo_is_parked_and_never_goes_on_by_itself(any_yard: Yard) -> None:
    yard = any_yard
    with told(failing={"verify"}, undo_failing={"stop"}) as script:
        migration = yard.ask()
        ends = yard.run()
        assert ends[-1] == ("kvm1", End.PARKED)
        assert script.order("revert") == ["verify", "send", "stop"]
        row = yard.migration(migration)
        assert (row.phase, row.outcome) == ("parked", "parked")
        assert "the undo of stop failed: the undo of stop was told to fail" in str(row.error)
        assert "it was undone because: verify was told to fail" in str(row.error)
        assert str(row.hint).startswith("hostler ")
        notice = yard.board.parked(migration)
        assert notice is not None
        assert (notice["step"], notice["host"]) == ("stop", "kvm1")
        assert yard.board.held_instances() == [row.instance_uuid]
        states = yard.states(migration)
        assert states["stop"] == "REVERT_FAILURE"

        said = list(script.said)
        Reconciler(yard.database, yard.board, posting_timeout_s=0).run()
        assert yard.run() == [], "a parked migration comes to no board"
        # Even if somebody puts the job back, nothing is carried out and nothing forgotten.
        posting = yard.board.posting
        assert posting("kvm1", migration) is None
        assert yard.board.post("kvm1", Posting.from_dict(notice["posting"]))
        assert yard.run() == [("kvm1", End.PARKED)]
        assert script.said == said
        assert yard.states(migration) == states


# -- finished flows delivered again -----------------------------------------------------------------------


@pytest.mark.parametrize("failing", [set(), {"verify"}], ids=["finished", "undone"])
@pytest.mark.parametrize("written", [False, True], ids=["before the end is on record", "after it"])
def test_a_flow_that_is_over_is_consumed_and_not_carried_out_again(
    yard: Yard, failing: set[str], written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Killed

    with told(failing=failing) as script:
        migration = yard.ask()
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(type(yard.board), "consume", die) if written else patch.setattr(
                leg_module.MigrationLeg, "_finish", die
            )
            yard.run()
        said, states = list(script.said), yard.states(migration)
        host = next(host for host, jobs in yard.jobs().items() if jobs)
        assert yard.run() == [(host, End.STALE if written else End.FINISHED)]
    assert script.said == said
    assert yard.states(migration) == states
    assert yard.migration(migration).outcome == ("reverted" if failing else "success")
    assert yard.board.held_instances() == []


def test_a_stale_job_of_a_closed_migration_is_dropped_and_raises_no_fence(any_yard: Yard) -> None:
    yard = any_yard
    with told() as script:
        migration = yard.ask()
        posting = yard.board.posting("kvm1", migration)
        assert posting is not None
        yard.run()
        said, before = list(script.said), dump(yard)
        assert yard.board.post("kvm2", replace(posting, epoch=50))
        assert yard.run() == [("kvm2", End.STALE)]
        assert script.said == said
        assert dump(yard) == before
        assert yard.board.held_instances() == []


def test_a_job_of_a_migration_that_is_on_no_record_is_dropped(yard: Yard) -> None:
    assert yard.board.post("kvm1", Posting("unknown", "server", "cold_migration", "flow"))
    assert yard.run() == [("kvm1", End.STALE)]
    assert yard.board.held_instances() == []


# -- flows that cannot be loaded --------------------------------------------------------------------------


def lose_a_step(yard: Yard, flow: str) -> None:
    with yard.database.transaction() as session:
        session.execute(delete(AtomRow).where(AtomRow.flow_uuid == flow, AtomRow.name == "stop"))


def lose_the_shape(yard: Yard, flow: str) -> None:
    with yard.database.transaction() as session:
        session.execute(update(FlowRow).where(FlowRow.uuid == flow).values(meta={"format": 99}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lose_a_step, "no record of stop"),
        (lose_the_shape, "format 99 is not known"),
    ],
)
def test_a_flow_that_cannot_be_loaded_is_parked_and_kept(yard: Yard, harm: Any, says: str) -> None:
    with told() as script:
        migration = yard.ask()
        harm(yard, yard.migration(migration).flow_uuid)
        assert yard.run() == [("kvm1", End.PARKED)]
    assert script.said == []
    row = yard.migration(migration)
    assert row.phase == "parked"
    assert says in str(row.error)
    notice = yard.board.parked(migration)
    assert notice is not None
    assert says in notice["reason"]


def test_a_step_whose_result_cannot_be_stored_is_parked_and_not_tried_for_ever(yard: Yard) -> None:
    with told(during={"look": lambda _leg: {1, 2}}) as script:
        migration = yard.ask()
        assert yard.run()[-1] == ("kvm1", End.PARKED)
    assert len(script.said) <= 2
    assert "JSON" in str(yard.migration(migration).error)


def test_a_failure_whose_cause_holds_anything_at_all_is_undone_as_any_other(any_yard: Yard) -> None:
    def reset(_leg: Leg) -> None:
        try:
            raise ConnectionError("aborted", OSError(object()))  # as requests and urllib3 nest them
        except ConnectionError as cause:
            raise StepFailed("the service does not answer") from cause

    with told(during={"look": reset}):
        migration = any_yard.ask()
        any_yard.run()
    row = any_yard.migration(migration)
    assert (row.phase, row.outcome, row.error) == ("closed", "reverted", "the service does not answer")


def test_a_result_of_two_megabytes_passes(any_yard: Yard) -> None:
    big = {"images": ["x" * 1024] * 2048}
    with told(during={"look": lambda _leg: big}):
        migration = any_yard.ask()
        any_yard.run()
    assert any_yard.migration(migration).outcome == "success"
    assert any_yard.atoms(migration)["look"].results == big


# -- the fence --------------------------------------------------------------------------------------------


def raise_epoch(leg: Leg) -> None:
    """Let somebody else claim the migration while the step runs."""
    records = leg.records
    with records.database.transaction() as session:
        assert fence.raise_fence(session, records.migration, records.epoch + 1)


def test_a_leg_whose_claim_was_passed_stops_and_writes_nothing_more(any_yard: Yard) -> None:
    yard = any_yard
    with told() as script:
        migration = yard.ask()
        yard.turn("kvm1", migration)
        seen = {}
        rivals = []

        def overtaken(_leg: Leg) -> None:
            rivals.append(yard.claim("kvm2", migration))
            yard.leg(rivals[0])._begin()
            seen.update(dump(yard))

        script.during["claim"] = overtaken
        with pytest.raises(Fenced):
            yard.leg(yard.claim("kvm2", migration)).run()
        assert script.order("execute") == ["look", "claim"], "no further step is begun"
        assert dump(yard) == seen
        assert yard.states(migration)["claim"] == "RUNNING", "and the step is not taken for a failed one"
        script.during.clear()
        yard.board.abandon(rivals[0], counts=False)
        yard.run()
        assert script.order("revert") == []
        assert script.order("execute") == ["look", "claim", *NAMES[1:]]
    assert yard.migration(migration).outcome == "success"


def test_each_write_of_an_overtaken_leg_is_refused(any_yard: Yard) -> None:
    with told():
        migration = any_yard.ask()
        leg = any_yard.leg(any_yard.claim("kvm1", migration))
        assert leg._begin() is not None
        raise_epoch(leg)
        before = dump(any_yard)
        journal = leg.records.journal("look")
        writes = [
            lambda: journal.intend("a"),
            lambda: journal.done("a"),
            lambda: journal.undone("a"),
            lambda: leg._park(None, "none", []),
        ]
        for write in writes:
            with pytest.raises(Fenced):
                write()
            assert dump(any_yard) == before


def test_a_leg_that_begins_when_it_was_passed_already_changes_nothing(any_yard: Yard) -> None:
    with told() as script:
        migration = any_yard.ask()
        late = any_yard.leg(any_yard.claim("kvm1", migration))
        with any_yard.database.transaction() as session:
            session.execute(update(Fence).values(epoch=9))
        before = dump(any_yard)
        assert late._begin() is None
        assert dump(any_yard) == before
        assert script.said == []


# -- the database is away ---------------------------------------------------------------------------------


def test_while_the_database_is_away_the_job_stays(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    with told() as script:
        migration = yard.ask()

        def away(_leg: Leg) -> None:
            def refuse(*_: Any, **__: Any) -> None:
                raise OperationalError("", {}, Exception("connection refused"))

            monkeypatch.setattr("sqlalchemy.orm.Session.execute", refuse)
            monkeypatch.setattr("sqlalchemy.orm.Session.connection", refuse)

        script.during["look"] = away
        with pytest.raises(Unreachable):
            yard.turn("kvm1", migration)
        with pytest.raises(Unreachable):
            yard.turn("kvm1", migration)
        monkeypatch.undo()
        assert yard.jobs() == {"kvm1": [migration], "kvm2": []}
        script.during.clear()
        yard.run()
        assert script.order("revert") == []
    assert yard.migration(migration).outcome == "success"


# -- the tether -------------------------------------------------------------------------------------------


def test_a_silent_zookeeper_makes_a_leg_wait_and_undoes_nothing(yard: Yard) -> None:
    with told() as script:
        migration = yard.ask()
        tether = Tether()
        suspended, reached = threading.Event(), threading.Event()

        def wait_here(leg: Leg) -> None:
            tether.suspend()
            suspended.set()
            leg.checkpoint()
            reached.set()

        script.during["look"] = wait_here
        thread = threading.Thread(target=lambda: yard.leg(yard.claim("kvm1", migration), tether).run())
        thread.start()
        assert suspended.wait(10)
        assert not reached.wait(0.2)
        tether.resume()
        thread.join(10)
        assert reached.is_set()
        yard.run()
        assert script.order("execute") == NAMES
        assert script.order("revert") == []


@pytest.mark.parametrize(
    ("pull", "error"), [(Tether.lose, SessionLost), (lambda tether: tether.end(now=True), Stopping)]
)
def test_a_leg_that_must_end_leaves_its_step_running(yard: Yard, pull: Any, error: type[Interrupted]) -> None:
    with told() as script:
        migration = yard.ask()
        tether = Tether()

        def end_here(leg: Leg) -> None:
            threading.Timer(0.05, pull, [tether]).start()
            leg.pause(30)

        script.during["look"] = end_here
        claim = yard.claim("kvm1", migration)
        with pytest.raises(error):
            yard.leg(claim, tether).run()
        assert yard.states(migration)["look"] == "RUNNING"
        yard.board.abandon(claim, counts=False)
        script.during.clear()
        yard.run()
        assert script.order("execute") == ["look", *NAMES]
        assert script.order("revert") == []


def test_a_leg_told_to_end_finishes_its_step_and_gives_the_job_back(yard: Yard) -> None:
    with told() as script:
        migration = yard.ask()
        yard.turn("kvm1", migration)
        tether = Tether()
        script.during["claim"] = lambda _leg: tether.end()
        assert yard.leg(yard.claim("kvm2", migration), tether).run() is End.GIVEN_BACK
        assert script.order("execute") == ["look", "claim"]
        assert yard.states(migration)["claim"] == "SUCCESS"
        script.during.clear()
        yard.run()
        assert script.order("execute") == NAMES


def test_a_suspended_leg_can_still_be_ended() -> None:
    tether = Tether()
    tether.suspend()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(SessionLost):
            tether.checkpoint()
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    tether.lose()
    thread.join(10)
    assert ended.is_set()
    tether.resume()
    with pytest.raises(SessionLost):
        tether.checkpoint()


# -- history ----------------------------------------------------------------------------------------------


def test_the_history_says_who_worked_on_it_and_how_it_ended(yard: Yard) -> None:
    with told():
        migration = yard.ask()
        yard.run()
    with yard.database.reading() as session:
        events: list[Event] = moves.events(session, migration)
    assert [(event.host, event.kind) for event in events] == [
        (events[0].host, "posted"),
        *((host, "claimed") for host in ("kvm1", "kvm2", "kvm1", "kvm2")),
        ("kvm2", "finished"),
    ]
