"""The postman: in order, at least once, patient, and never in the way."""

from __future__ import annotations

import datetime
import logging
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from hostler.drivers.notifications import Message
from hostler.drivers.notifications.fake import FakeCourier
from hostler.drivers.notifications.news import News
from hostler.errors import NotificationRefused, ServerUnreachable
from hostler.jobboard import postman
from hostler.jobboard.postman import Postman
from hostler.records import fence
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.models import OutboxEntry, now
from lab.process import wait_until
from tests.unit.drivers.notifications.messages import message

AWAY = ServerUnreachable(what="the webhook", where="https://there/", reason="it is away")
NEVER = NotificationRefused(where="https://there/", event="b", reason="it answered 400")


@pytest.fixture
def courier() -> FakeCourier:
    return FakeCourier()


@pytest.fixture
def news(courier: FakeCourier) -> News:
    return News({"webhook": courier})


@pytest.fixture
def told(database: Database, news: News) -> Callable[..., None]:
    """Tell events of a migration, as its steps do."""

    def tell(migration: str, *events: str | Message) -> None:
        with database.transaction() as session:
            if fence.current_epoch(session, migration) == 0:
                fence.open_fence(session, migration)
                assert fence.raise_fence(session, migration, 1)
        records = FencedRecords(database, migration, 1, "kvm1")
        for event in events:
            news.tell(records, message(event) if isinstance(event, str) else event)

    return tell


def deliver_all(postman: Postman) -> None:
    while postman.deliver():
        pass


def events(courier: FakeCourier) -> list[str]:
    return [one.event_type for one in courier.delivered]


def waiting(database: Database) -> list[OutboxEntry]:
    with database.reading() as session:
        return list(session.scalars(select(OutboxEntry).order_by(OutboxEntry.id)))


def time_passes(database: Database, one: Postman) -> None:
    """Let every pause be over."""
    one._paused.clear()
    with database.transaction() as session:
        session.execute(update(OutboxEntry).values(due_at=now()))


def test_events_arrive_in_order_and_are_forgotten(
    database: Database, news: News, courier: FakeCourier, told: Callable[..., None]
) -> None:
    told("m1", "a", "b", "c")
    deliver_all(Postman(database, news))
    assert events(courier) == ["a", "b", "c"]
    assert waiting(database) == []


def test_a_listener_that_is_away_gets_all_of_it_later_in_order(
    database: Database, news: News, courier: FakeCourier, told: Callable[..., None]
) -> None:
    one = Postman(database, news)
    courier.away = AWAY
    told("m1", "a", "b")
    told("m2", "c")
    deliver_all(one)
    told("m1", "d")
    assert events(courier) == []
    assert len(waiting(database)) == 4
    courier.away = None
    time_passes(database, one)
    deliver_all(one)
    assert [event for event in events(courier) if event != "c"] == ["a", "b", "d"]
    assert waiting(database) == []


def test_a_listener_that_is_away_is_asked_less_and_less_often(
    database: Database, news: News, courier: FakeCourier, told: Callable[..., None]
) -> None:
    one = Postman(database, news, retry_interval_max_s=5)
    courier.away = AWAY
    told("m1", "a")
    pauses = []
    for _ in range(5):
        deliver_all(one)
        pauses.append(round(one._pause()))
        time_passes(database, one)
    assert pauses == [1, 2, 4, 5, 5]
    assert waiting(database)[0].attempts == 5


def test_one_that_is_away_holds_no_other_up(database: Database) -> None:
    away, well = FakeCourier(), FakeCourier()
    away.away = AWAY
    news = News({"webhook": away, "messagingv2": well})
    with database.transaction() as session:
        fence.open_fence(session, "m1")
        fence.raise_fence(session, "m1", 1)
    for event in ("a", "b"):
        news.tell(FencedRecords(database, "m1", 1, "kvm1"), message(event))
    deliver_all(Postman(database, news))
    assert events(well) == ["a", "b"]
    assert [(row.driver, row.message["event_type"]) for row in waiting(database)] == [
        ("webhook", "a"),
        ("webhook", "b"),
    ]


def test_what_a_listener_never_takes_is_given_up_and_said(
    database: Database,
    news: News,
    courier: FakeCourier,
    told: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    courier.failing = [NEVER]
    told("m1", "b", "c")
    deliver_all(Postman(database, news))
    assert events(courier) == ["c"]
    assert waiting(database) == []
    assert "is given up: https://there/ does not take b: it answered 400" in caplog.text


def test_a_defect_of_a_driver_costs_a_pause_and_no_event(
    database: Database, news: News, courier: FakeCourier, told: Callable[..., None]
) -> None:
    one = Postman(database, news)
    courier.failing = [ValueError("a defect")]
    told("m1", "a", "b")
    deliver_all(one)
    assert events(courier) == []
    time_passes(database, one)
    deliver_all(one)
    assert events(courier) == ["a", "b"]


def test_a_sender_that_died_behind_the_delivery_leaves_it_to_be_repeated_under_the_same_id(
    database: Database, news: News, courier: FakeCourier, told: Callable[..., None]
) -> None:
    class Died(BaseException):
        pass

    class Dying(FakeCourier):
        def deliver(self, message: Message) -> None:
            courier.deliver(message)
            raise Died

    told("m1", "a", "b")
    with pytest.raises(Died):
        Postman(database, News({"webhook": Dying()})).deliver()
    successor = Postman(database, news)
    deliver_all(successor)
    assert events(courier) == ["a"], "the lease of the dead one has not ended"
    time_passes(database, successor)
    deliver_all(successor)
    assert events(courier) == ["a", "a", "b"]
    assert courier.delivered[0] == courier.delivered[1]


def test_a_step_that_is_carried_out_again_tells_it_again_under_the_same_id(
    database: Database, news: News, courier: FakeCourier, told: Callable[..., None]
) -> None:
    number = str(uuid.uuid4())
    told("m1", message("a", message_id=number), message("a", message_id=number))
    assert len(waiting(database)) == 1
    deliver_all(Postman(database, news))
    told("m1", message("a", message_id=number))
    deliver_all(Postman(database, news))
    assert [one.message_id for one in courier.delivered] == [number, number]


def test_a_sender_that_is_slow_gives_back_what_it_cannot_begin_in_time(
    database: Database,
    news: News,
    courier: FakeCourier,
    told: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postman, "LEASE_S", 0.0)
    told("m1", "a")
    assert Postman(database, news).deliver() == 1
    assert courier.delivered == []
    (row,) = waiting(database)
    assert (row.attempts, row.due_at <= now()) == (0, True)


def test_what_nobody_takes_for_a_week_is_given_up(
    database: Database, news: News, told: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    told("m1", "a", "b")
    first = waiting(database)[0].id
    with database.transaction() as session:
        before = now() - datetime.timedelta(days=8)
        session.execute(
            update(OutboxEntry).where(OutboxEntry.id == first).values(created_at=before, driver="gone")
        )
    Postman(database, news)._drop_old()
    assert [row.message["event_type"] for row in waiting(database)] == ["b"]
    assert "is given up: nobody took it by gone" in caplog.text


def test_at_work_it_wakes_when_told_and_flushes_what_is_left(
    database: Database, news: News, courier: FakeCourier, told: Callable[..., None]
) -> None:
    with Postman(database, news).at_work():
        told("m1", "a")
        wait_until(lambda: events(courier) == ["a"], "the first event", 10)
        told("m1", "b", "c")
    assert events(courier) == ["a", "b", "c"]
    assert waiting(database) == []


def test_a_worker_that_ends_does_not_wait_for_a_listener(
    database: Database,
    news: News,
    courier: FakeCourier,
    told: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    courier.away = AWAY
    with Postman(database, news).at_work():
        told("m1", "a")
        wait_until(lambda: "events wait" in caplog.text, "the first try", 10)
    assert len(waiting(database)) == 1


def test_news_that_cannot_be_told_fail_nobody(
    database: Database, news: News, told: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    told("m1", message("a", it=Unspeakable()))
    assert caplog.records[-1].getMessage() == "notification a was not sent"
    assert waiting(database) == []
