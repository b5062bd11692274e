"""What the boards promise, against a real ZooKeeper."""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from hostler.errors import Fenced
from hostler.jobboard.board import Board
from hostler.jobboard.jobs import Claim, Posting
from hostler.jobboard.news import News
from lab.process import wait_until
from tests.functional.jobboard.yard import expire, reply_lost, zxid

NewBoard = Callable[[], Board]


def claimed(board: Board, posting: Posting, host: str = "kvm1") -> Claim:
    """Post a job and take it."""
    assert board.post(host, posting)
    claim = board.claim(host, posting.migration)
    assert claim is not None
    return claim


def everything(board: Board) -> dict[str, tuple[bytes, int]]:
    """Return each node under the root with its data and its session."""

    def below(path: str) -> dict[str, tuple[bytes, int]]:
        data, stat = board.client.get(path)
        nodes = {path.removeprefix(board.root): (data, stat.ephemeralOwner)}
        for name in board.client.get_children(path):
            nodes |= below(f"{path}/{name}")
        return nodes

    return below(board.root)


# -- posting ----------------------------------------------------------------------------------------------


def test_a_posted_job_is_on_its_board_and_holds_its_server(board: Board, posting: Posting) -> None:
    assert board.post("kvm1", posting)
    assert board.jobs("kvm1") == [posting.migration]
    assert board.posting("kvm1", posting.migration) == posting
    place = board.place(posting.instance)
    assert place is not None
    assert (place.migration, place.board) == (posting.migration, "kvm1")
    assert board.held_instances() == [posting.instance]


def test_a_second_migration_of_a_server_is_refused(board: Board, posting: Posting) -> None:
    second = dataclasses.replace(posting, migration=str(uuid.uuid4()))
    assert board.post("kvm1", posting)
    before = everything(board)
    assert not board.post("kvm1", second)
    assert not board.post("kvm2", second)
    assert everything(board) == before


def test_of_two_migrations_of_a_server_posted_at_once_one_wins(new_board: NewBoard, posting: Posting) -> None:
    boards = [new_board() for _ in range(2)]
    boards[0].ensure("kvm1", "kvm2")
    for _ in range(10):
        rivals = [
            dataclasses.replace(posting, instance=(server := str(uuid.uuid4())), migration=str(uuid.uuid4()))
            for _ in range(2)
        ]
        rivals[1] = dataclasses.replace(rivals[1], instance=rivals[0].instance)
        barrier = threading.Barrier(2)

        def post(number: int, rivals: list[Posting] = rivals, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(10)
            return boards[number].post("kvm1", rivals[number])

        with ThreadPoolExecutor(2) as threads:
            won = list(threads.map(post, range(2)))
        assert sorted(won) == [False, True], server
        place = boards[0].place(rivals[0].instance)
        assert place is not None
        assert place.migration == rivals[won.index(True)].migration


def test_a_migration_whose_job_was_lost_is_posted_again(board: Board, posting: Posting) -> None:
    assert board.post("kvm1", posting)
    assert not board.post("kvm1", posting), "its job is still there"
    board.client.delete(board.path("boards", "kvm1", posting.migration))
    again = dataclasses.replace(posting, epoch=7)
    assert board.post("kvm2", again)
    place = board.place(posting.instance)
    assert place is not None
    assert place.board == "kvm2"
    assert board.posting("kvm2", posting.migration) == again


@pytest.mark.parametrize("host", ["kvm1.example.org", "KVM-7.rack_2.example.org"])
def test_a_host_name_with_dots_has_a_board(board: Board, posting: Posting, host: str) -> None:
    claim = claimed(board, posting, "kvm1")
    board.hand_over(claim, host)
    assert host in board.hosts()
    assert board.jobs(host) == [posting.migration]


# -- claiming ---------------------------------------------------------------------------------------------


def test_a_claim_raises_the_epoch_in_one_change(board: Board, posting: Posting, zookeeper_hosts: str) -> None:
    assert board.post("kvm1", posting)
    before = zxid(zookeeper_hosts)
    claim = board.claim("kvm1", posting.migration)
    assert zxid(zookeeper_hosts) - before == 1
    assert claim is not None
    assert (claim.posting.epoch, claim.posting.attempts) == (1, 1)
    assert board.posting("kvm1", posting.migration) == claim.posting


def test_a_job_that_another_session_works_on_cannot_be_claimed(new_board: NewBoard, posting: Posting) -> None:
    holder, other = new_board(), new_board()
    claim = claimed(holder, posting)
    assert other.locked("kvm1", posting.migration)
    before = everything(holder)
    assert other.claim("kvm1", posting.migration) is None
    assert everything(holder) == before
    holder.consume(claim)


def test_of_two_sessions_that_claim_a_job_at_once_one_gets_it(new_board: NewBoard, posting: Posting) -> None:
    boards = [new_board() for _ in range(2)]
    for number in range(20):
        job = dataclasses.replace(posting, migration=str(uuid.uuid4()), instance=str(uuid.uuid4()))
        assert boards[number % 2].post("kvm1", job)
        barrier = threading.Barrier(2)

        def claim(board: Board, job: Posting = job, barrier: threading.Barrier = barrier) -> Claim | None:
            barrier.wait(10)
            return board.claim("kvm1", job.migration)

        with ThreadPoolExecutor(2) as threads:
            claims = list(threads.map(claim, boards))
        assert [one is None for one in claims].count(False) == 1


def test_a_claim_of_nothing_is_none(board: Board) -> None:
    assert board.claim("kvm1", str(uuid.uuid4())) is None
    assert board.claim("kvm9", str(uuid.uuid4())) is None


def test_what_a_leg_of_this_session_left_locked_is_claimed_anew(board: Board, posting: Posting) -> None:
    left = claimed(board, posting)
    assert not board.locked("kvm1", posting.migration)
    again = board.claim("kvm1", posting.migration)
    assert again is not None
    assert again.posting.epoch == left.posting.epoch + 1
    with pytest.raises(Fenced):
        board.consume(left)
    board.consume(again)
    assert everything(board).keys() == {
        "",
        "/boards",
        "/boards/kvm1",
        "/boards/kvm2",
        "/instances",
        "/parked",
        "/wishes",
        "/workers",
    }


# -- handing over -----------------------------------------------------------------------------------------


def test_a_hand_over_is_one_change_that_carries_the_epoch(
    board: Board, posting: Posting, zookeeper_hosts: str
) -> None:
    claim = claimed(board, dataclasses.replace(posting, epoch=4))
    before = zxid(zookeeper_hosts)
    board.hand_over(claim, "kvm2")
    assert zxid(zookeeper_hosts) - before == 1
    assert board.jobs("kvm1") == []
    assert board.posting("kvm2", posting.migration) == dataclasses.replace(posting, epoch=5, attempts=0)
    place = board.place(posting.instance)
    assert place is not None
    assert (place.migration, place.board) == (posting.migration, "kvm2")


def test_a_hand_over_wakes_the_other_host(new_board: NewBoard, board: Board, posting: Posting) -> None:
    woken = threading.Event()
    assert new_board().jobs("kvm2", watch=lambda _event: woken.set()) == []
    board.hand_over(claimed(board, posting), "kvm2")
    assert woken.wait(5)


def test_a_hand_over_to_a_host_whose_worker_never_ran_makes_its_board(board: Board, posting: Posting) -> None:
    board.hand_over(claimed(board, posting), "kvm3")
    assert board.jobs("kvm3") == [posting.migration]
    assert board.jobs("kvm1") == []


CHANGES: dict[str, Callable[[Board, Claim], None]] = {
    "hand over": lambda board, claim: board.hand_over(claim, "kvm2"),
    "hand over to a new board": lambda board, claim: board.hand_over(claim, "kvm9"),
    "consume": lambda board, claim: board.consume(claim),
    "park": lambda board, claim: board.park(claim, {"reason": "none"}),
    "give back": lambda board, claim: board.abandon(claim, counts=False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_session_that_lost_its_claim_changes_nothing(
    new_board: NewBoard, board: Board, posting: Posting, zookeeper_hosts: str, change: str
) -> None:
    zombie = new_board()
    stale = claimed(zombie, posting)
    expire(zombie.client, zookeeper_hosts)
    wait_until(lambda: not board.locked("kvm1", posting.migration), "the lock's end", 10)
    owner = board.claim("kvm1", posting.migration)
    assert owner is not None
    assert owner.posting.epoch == stale.posting.epoch + 1
    zombie.ensure("kvm9")
    before = everything(board)
    with pytest.raises(Fenced):
        CHANGES[change](zombie, stale)
    assert everything(board) == before
    board.consume(owner)


@pytest.mark.parametrize("change", CHANGES)
def test_a_claim_of_an_earlier_visit_to_the_board_is_not_the_present_one(
    new_board: NewBoard, board: Board, posting: Posting, zookeeper_hosts: str, change: str
) -> None:
    # The job's node is a new one then, and its versions are those of the earlier visit.
    zombie = new_board()
    stale = claimed(zombie, posting)
    expire(zombie.client, zookeeper_hosts)
    wait_until(lambda: not board.locked("kvm1", posting.migration), "the lock's end", 10)
    for host, other in (("kvm1", "kvm2"), ("kvm2", "kvm1")):
        passing = board.claim(host, posting.migration)
        assert passing is not None
        board.hand_over(passing, other)
    owner = board.claim("kvm1", posting.migration)
    assert owner is not None
    assert owner.version == stale.version
    zombie.ensure("kvm9")
    before = everything(board)
    with pytest.raises(Fenced):
        CHANGES[change](zombie, stale)
    assert everything(board) == before


# -- ending -----------------------------------------------------------------------------------------------


def test_a_consumed_job_leaves_nothing_behind(board: Board, posting: Posting, zookeeper_hosts: str) -> None:
    before = everything(board).keys()
    claim = claimed(board, posting)
    changes = zxid(zookeeper_hosts)
    board.consume(claim)
    assert zxid(zookeeper_hosts) - changes == 1
    assert everything(board).keys() == before
    assert board.post("kvm1", dataclasses.replace(posting, migration=str(uuid.uuid4())))


def test_a_stale_job_does_not_let_go_of_a_server_that_moves_elsewhere(board: Board, posting: Posting) -> None:
    assert board.post("kvm1", posting)
    stale = claimed(board, dataclasses.replace(posting, instance=str(uuid.uuid4())), "kvm2")
    board.consume(
        dataclasses.replace(stale, posting=dataclasses.replace(stale.posting, instance=posting.instance))
    )
    place = board.place(posting.instance)
    assert place is not None
    assert place.board == "kvm1"


def test_a_parked_job_keeps_its_server_and_says_why(board: Board, posting: Posting) -> None:
    board.park(claimed(board, posting), {"reason": "the undo failed", "commands": ["look"]})
    assert board.jobs("kvm1") == []
    notice = board.parked(posting.migration)
    assert notice is not None
    assert notice["reason"] == "the undo failed"
    assert Posting.from_dict(notice["posting"]).epoch == 1
    assert board.held_instances() == [posting.instance]


def test_a_job_that_is_parked_again_says_the_latest_reason(board: Board, posting: Posting) -> None:
    board.park(claimed(board, posting), {"reason": "first"})
    board.park(claimed(board, dataclasses.replace(posting, epoch=1)), {"reason": "second"})
    notice = board.parked(posting.migration)
    assert notice is not None
    assert notice["reason"] == "second"


@pytest.mark.parametrize(("counts", "attempts"), [(True, 1), (False, 0)])
def test_a_job_given_back_waits_on_its_board(
    board: Board, posting: Posting, counts: bool, attempts: int
) -> None:
    board.abandon(claimed(board, posting), counts=counts)
    found = board.posting("kvm1", posting.migration)
    assert found == dataclasses.replace(posting, epoch=1, attempts=attempts)
    assert board.client.get_children(board.path("boards", "kvm1", posting.migration)) == []
    assert board.claim("kvm1", posting.migration) is not None


def test_the_lock_goes_with_its_session_and_wakes_who_waits(
    new_board: NewBoard, board: Board, posting: Posting, zookeeper_hosts: str
) -> None:
    holder = new_board()
    claimed(holder, posting)
    woken = threading.Event()
    assert board.locked("kvm1", posting.migration, watch=lambda _event: woken.set())
    expire(holder.client, zookeeper_hosts)
    assert woken.wait(10)
    again = board.claim("kvm1", posting.migration)
    assert again is not None
    assert again.posting.epoch == 2
    assert again.posting.attempts == 2


# -- lost replies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_post_whose_reply_is_lost_is_made_once(board: Board, posting: Posting, when: str) -> None:
    with reply_lost(board.client, when):
        assert board.post("kvm1", posting)
    assert board.posting("kvm1", posting.migration) == posting
    assert not board.post("kvm2", dataclasses.replace(posting, migration=str(uuid.uuid4())))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_refused_post_whose_reply_is_lost_is_refused(board: Board, posting: Posting, when: str) -> None:
    assert board.post("kvm1", posting)
    place = board.place(posting.instance)
    assert place is not None
    board.release(posting.instance, place)
    with reply_lost(board.client, when):
        assert not board.post("kvm1", posting), "the job is still there"
    assert board.place(posting.instance) is None


def test_a_post_whose_reply_is_lost_while_the_job_is_claimed_was_made(
    new_board: NewBoard, board: Board, posting: Posting, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = new_board()
    real = Board._took_hold

    def claimed_meanwhile(self: Board, *arguments: object) -> bool:
        claim = worker.claim("kvm1", posting.migration)
        if claim is not None:
            worker.hand_over(claim, "kvm2")
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Board, "_took_hold", claimed_meanwhile)
    with reply_lost(board.client, "after"):
        assert board.post("kvm1", posting)
    assert board.jobs("kvm2") == [posting.migration]
    assert board.jobs("kvm1") == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_claim_whose_reply_is_lost_is_ours(board: Board, posting: Posting, when: str) -> None:
    assert board.post("kvm1", posting)
    with reply_lost(board.client, when):
        claim = board.claim("kvm1", posting.migration)
    assert claim is not None
    assert claim.posting.epoch == 1
    board.consume(claim)
    assert board.jobs("kvm1") == []


def test_a_claim_that_lost_its_reply_and_the_race_is_not_ours(
    new_board: NewBoard, board: Board, posting: Posting
) -> None:
    rival = new_board()
    assert board.post("kvm1", posting)
    real = board._has

    def rival_first(path: str, expected: Posting) -> bool:
        rival.claim("kvm1", posting.migration)
        return real(path, expected)

    with pytest.MonkeyPatch.context() as patch, reply_lost(board.client, "before"):
        patch.setattr(board, "_has", rival_first)
        assert board.claim("kvm1", posting.migration) is None
    assert board.locked("kvm1", posting.migration)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("host", ["kvm2", "kvm3"])
def test_a_hand_over_whose_reply_is_lost_is_made_once(
    board: Board, posting: Posting, when: str, host: str
) -> None:
    claim = claimed(board, posting)
    with reply_lost(board.client, when):
        board.hand_over(claim, host)
    assert board.jobs("kvm1") == []
    assert board.posting(host, posting.migration) == dataclasses.replace(posting, epoch=1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_consumption_whose_reply_is_lost_is_made(board: Board, posting: Posting, when: str) -> None:
    claim = claimed(board, posting)
    with reply_lost(board.client, when):
        board.consume(claim)
    assert board.jobs("kvm1") == []
    assert board.held_instances() == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("parked_before", [False, True])
def test_a_parking_whose_reply_is_lost_is_made(
    board: Board, posting: Posting, when: str, parked_before: bool
) -> None:
    if parked_before:
        board.park(claimed(board, posting), {"reason": "earlier"})
    claim = claimed(board, posting)
    with reply_lost(board.client, when):
        board.park(claim, {"reason": "now"})
    assert board.jobs("kvm1") == []
    notice = board.parked(posting.migration)
    assert notice is not None
    assert notice["reason"] == "now"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_job_given_back_whose_reply_is_lost_is_free(board: Board, posting: Posting, when: str) -> None:
    claim = claimed(board, posting)
    with reply_lost(board.client, when):
        board.abandon(claim, counts=False)
    assert board.client.get_children(board.path("boards", "kvm1", posting.migration)) == []
    found = board.posting("kvm1", posting.migration)
    assert found == dataclasses.replace(posting, epoch=1)


# -- nodes of strangers -----------------------------------------------------------------------------------

GOOD = {
    "migration": "m",
    "instance": "i",
    "flow": "cold_migration",
    "flow_uuid": "f",
    "epoch": 0,
    "attempts": 0,
    "format": 1,
}
FOREIGN = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "nested deep": b"[" * 100_000,
    "another format": json.dumps(GOOD | {"format": 2}).encode(),
    "a field more": json.dumps(GOOD | {"host": "kvm1"}).encode(),
    "a field less": json.dumps({"migration": "m"}).encode(),
    "an epoch of text": json.dumps(GOOD | {"epoch": "1"}).encode(),
    "an epoch that is true": json.dumps(GOOD | {"epoch": True}).encode(),
    "an epoch below nothing": json.dumps(GOOD | {"epoch": -1}).encode(),
    "an epoch beyond all": json.dumps(GOOD | {"epoch": 10**30}).encode(),
    "a path as server": json.dumps(GOOD | {"instance": "../workers"}).encode(),
    "no server": json.dumps(GOOD | {"instance": ""}).encode(),
    "a NUL in the server": json.dumps(GOOD | {"instance": "a\0b"}).encode(),
    "another migration": json.dumps(GOOD | {"migration": "n"}).encode(),
    "taskflow's own": json.dumps({"uuid": "m", "name": "job", "details": {}, "state": "UNCLAIMED"}).encode(),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_job_that_this_version_did_not_write_is_left_alone(board: Board, kind: str) -> None:
    board.client.create(board.path("boards", "kvm1", "m"), FOREIGN[kind])
    before = everything(board)
    assert board.jobs("kvm1") == ["m"]
    assert board.claim("kvm1", "m") is None
    assert everything(board) == before


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'{"migration": 7}', b"[" * 100_000])
def test_damaged_notes_are_read_as_empty(board: Board, posting: Posting, data: bytes) -> None:
    board.client.create(board.path("workers", "kvm1"), data)
    board.client.create(board.path("parked", posting.migration), data)
    board.client.create(board.path("instances", posting.instance), data)
    assert board.workers().keys() == {"kvm1"}
    assert board.parked(posting.migration) in ({}, {"migration": 7})
    place = board.place(posting.instance)
    assert place is not None
    assert place.board == ""
    assert not board.post("kvm1", posting)


# -- looking on -------------------------------------------------------------------------------------------


def test_whoever_looks_on_hears_of_each_change_with_one_watch_a_node(
    board: Board, new_board: NewBoard, posting: Posting
) -> None:
    onlooker = new_board().client
    paths = [board.path("boards", host, posting.migration) for host in ("kvm1", "kvm2")]
    news = News([partial(onlooker.exists, path) for path in paths], lambda ask: ask())
    board.ensure("kvm1", "kvm2")
    assert news.wait(0.0), "what happened before is not known"
    for _ in range(20):
        assert not news.wait(0.0)
    assert all(
        len(onlooker._data_watchers[path]) + len(onlooker._child_watchers[path]) <= 1 for path in paths
    )
    changes = [
        lambda: board.post("kvm1", posting),
        lambda: board.claim("kvm1", posting.migration),
        lambda: board.abandon(
            Claim("kvm1", dataclasses.replace(posting, epoch=1, attempts=1), 1), counts=True
        ),
    ]
    for change in changes:
        change()
        assert news.wait(30.0)


def test_a_lost_session_is_news(
    board: Board, new_board: NewBoard, posting: Posting, zookeeper_hosts: str
) -> None:
    onlooker = new_board()
    path = board.path("boards", "kvm1", posting.migration)
    news = News([partial(onlooker.client.exists, path)], onlooker.client.retry)
    assert news.wait(0.0)
    expire(onlooker.client, zookeeper_hosts)
    assert news.wait(30.0)
