"""The fence: of all the legs that ever held a migration only the latest one writes."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from hostler.errors import Fenced, Interrupted, ServerUnreachable, Unreachable
from hostler.records import fence, moves
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from tests.records_made import make_leg

#: How long something that must wait is watched while it does.
WATCHED_S = 0.5


@pytest.fixture
def leg(any_database: Database) -> FencedRecords:
    return make_leg(any_database)


def raise_to(leg: FencedRecords, epoch: int) -> bool:
    with leg.database.transaction() as session:
        return fence.raise_fence(session, leg.migration, epoch)


def notes(leg: FencedRecords) -> list[str]:
    with leg.database.reading() as session:
        return [event.text for event in moves.events(session, leg.migration)]


def note(leg: FencedRecords, text: str) -> None:
    with leg.transaction() as session:
        leg.note(session, "claimed", text)


def test_the_holder_writes(leg: FencedRecords) -> None:
    note(leg, "one")
    note(leg, "two")
    assert notes(leg) == ["one", "two"]


def test_a_late_writer_is_refused_and_writes_nothing(leg: FencedRecords) -> None:
    assert raise_to(leg, 2)
    with pytest.raises(Fenced, match="epoch 1 of migration"):
        note(leg, "late")
    assert notes(leg) == []
    note(FencedRecords(leg.database, leg.migration, 2, "kvm1"), "in time")
    assert notes(leg) == ["in time"]


def test_being_fenced_undoes_nothing(leg: FencedRecords) -> None:
    # TaskFlow answers every Exception by walking back.
    assert issubclass(Fenced, Interrupted)
    assert not issubclass(Fenced, Exception)


def test_a_claim_not_yet_raised_does_not_write(leg: FencedRecords) -> None:
    with pytest.raises(Fenced):
        note(FencedRecords(leg.database, leg.migration, 2, "kvm1"), "early")


def test_a_migration_that_nobody_knows_is_fenced_off(leg: FencedRecords) -> None:
    with pytest.raises(Fenced):
        note(FencedRecords(leg.database, str(uuid.uuid4()), 1, "kvm1"), "whose?")


def test_the_fence_only_rises(leg: FencedRecords) -> None:
    assert raise_to(leg, 5)
    assert not raise_to(leg, 5)
    assert not raise_to(leg, 4)
    with leg.database.reading() as session:
        assert fence.current_epoch(session, leg.migration) == 5
        assert fence.current_epoch(session, str(uuid.uuid4())) == 0


def test_a_write_that_began_before_the_raise_commits_before_it(leg: FencedRecords) -> None:
    with ThreadPoolExecutor(1) as threads:
        with leg.transaction() as session:
            leg.note(session, "claimed", "in time")
            rival = threads.submit(raise_to, leg, 2)
            assert wait([rival], WATCHED_S).not_done, "the fence rose past a writer that holds it"
        assert rival.result(30)
    assert notes(leg) == ["in time"]
    with pytest.raises(Fenced):
        note(leg, "late")


def test_a_write_that_begins_during_the_raise_is_refused(leg: FencedRecords) -> None:
    def late() -> str:
        try:
            note(leg, "late")
        except Fenced:
            return "fenced"
        return "written"

    with ThreadPoolExecutor(1) as threads:
        with leg.database.transaction() as session:
            fence.raise_fence(session, leg.migration, 2)
            future = threads.submit(late)
            assert wait([future], WATCHED_S).not_done, "a write went past a claim that was being made"
        assert future.result(30) == "fenced"
    assert notes(leg) == []


def test_a_claim_that_was_not_made_in_the_end_leaves_the_holder_its_fence(leg: FencedRecords) -> None:
    with pytest.raises(RuntimeError), leg.database.transaction() as session:
        fence.raise_fence(session, leg.migration, 2)
        raise RuntimeError("ZooKeeper did not make the lock")
    note(leg, "still mine")
    assert notes(leg) == ["still mine"]


def test_of_many_claims_at_once_the_highest_writes(leg: FencedRecords) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda epoch: raise_to(leg, epoch), range(2, 10)))
    for epoch in range(1, 9):
        with pytest.raises(Fenced):
            note(FencedRecords(leg.database, leg.migration, epoch, "kvm1"), "late")
    note(FencedRecords(leg.database, leg.migration, 9, "kvm1"), "latest")


def test_what_a_step_raises_takes_its_writes_with_it(leg: FencedRecords) -> None:
    with pytest.raises(ValueError, match="no"), leg.transaction() as session:
        leg.note(session, "claimed", "half")
        raise ValueError("no")
    assert notes(leg) == []


def test_a_database_that_is_away_ends_the_leg_and_undoes_nothing(leg: FencedRecords) -> None:
    away = FencedRecords(Database("postgresql://nobody:secret@127.0.0.1:1/none"), leg.migration, 1, "kvm1")
    for ask in (lambda: note(away, "x"), lambda: away.journal("PowerOff").get("x")):
        with pytest.raises(Unreachable) as unreachable:
            ask()
        assert "127.0.0.1:1" in str(unreachable.value)
        assert "secret" not in str(unreachable.value)
        assert isinstance(unreachable.value.__cause__, ServerUnreachable)
    away.database.close()


# -- the journal ------------------------------------------------------------------------------------------


def test_a_journal_tells_intent_done_and_undone(leg: FencedRecords) -> None:
    journal = leg.journal("RenameInstanceDir")
    assert journal.get("a") is None
    journal.intend("a", inode=1)
    entry = journal.get("a")
    assert entry is not None
    assert (entry.state, entry.data) == ("intent", {"inode": 1})
    journal.done("a", renamed=True)
    entry = journal.get("a")
    assert entry is not None
    assert (entry.state, entry.data) == ("done", {"inode": 1, "renamed": True})
    journal.undone("a")
    assert journal.get("a") is None
    assert journal.all()["a"].state == "undone"


def test_a_second_attempt_keeps_what_the_first_one_found(leg: FencedRecords) -> None:
    journal = leg.journal("PowerOff")
    journal.intend("guest", was_running=True)
    journal.intend("guest", was_running=False)
    journal.done("guest")
    journal.intend("guest", was_running=False)
    entry = journal.get("guest")
    assert entry is not None
    assert (entry.state, entry.data) == ("done", {"was_running": True})


def test_after_an_undo_it_begins_anew(leg: FencedRecords) -> None:
    journal = leg.journal("PowerOff")
    journal.intend("guest", was_running=True)
    journal.undone("guest")
    journal.intend("guest", was_running=False)
    entry = journal.get("guest")
    assert entry is not None
    assert (entry.state, entry.data) == ("intent", {"was_running": False})


def test_journals_of_tasks_and_migrations_are_apart(leg: FencedRecords) -> None:
    leg.journal("PowerOff").done("a")
    another = make_leg(leg.database)
    assert leg.journal("CopyImages").all() == {}
    assert another.journal("PowerOff").all() == {}
    with leg.transaction() as session:
        fence.forget(session, leg.migration)
    assert leg.journal("PowerOff").all() == {}


def test_a_leg_that_was_passed_over_writes_no_journal(leg: FencedRecords) -> None:
    raise_to(leg, 2)
    with pytest.raises(Fenced):
        leg.journal("PowerOff").intend("guest")
    assert leg.journal("PowerOff").all() == {}
