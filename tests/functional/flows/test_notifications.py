"""What the listeners of a migration are told: Nova's events, in Nova's order, each as its schema says."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from sqlalchemy import select

from hostler import flows
from hostler.drivers.notifications import Message, schema
from hostler.drivers.notifications.fake import FakeCourier
from hostler.drivers.notifications.messaging import MessagingNotifications
from hostler.drivers.notifications.news import News
from hostler.errors import MigrationError, Unreachable
from hostler.jobboard.postman import Postman
from hostler.records.models import OutboxEntry
from hostler.tasks.notify import Notify
from tests.support.world import World, failing, step

#: The seed's steps 3, 4, 13, 18, 37, 45 and 52: who tells which event, and in what task state the server is then.
MIGRATED = """\
kvm2 compute.instance.exists              active  resize_prep
kvm2 compute.instance.resize.prep.start   active  resize_prep
kvm2 compute.instance.resize.prep.end     active  resize_prep
kvm1 compute.instance.resize.start        active  resize_prep
kvm1 compute.instance.resize.end          active  resize_migrating
kvm2 compute.instance.finish_resize.start active  resize_migrated
kvm2 compute.instance.finish_resize.end   resized
"""

#: Steps C2 and C7.
CONFIRMED = """\
kvm1 compute.instance.resize.confirm.start resized
kvm2 compute.instance.resize.confirm.end   active
"""

#: A flow that walks back from its last step before the hand-over.
FAILED = """\
kvm2 compute.instance.exists               INFO
kvm2 compute.instance.resize.prep.start    INFO
kvm2 compute.instance.resize.prep.end      INFO
kvm1 compute.instance.resize.start         INFO
kvm1 compute.instance.resize.end           INFO
kvm2 compute.instance.finish_resize.start  INFO
kvm2 compute.instance.finish_resize.error  ERROR
kvm1 compute.instance.resize.error         ERROR
kvm2 compute.instance.resize.prep.error    ERROR
"""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """What every message must be."""
    read = [schema.read(name) for name in schema.NAMES]
    for one in read:
        Draft202012Validator.check_schema(one)
    registry: Registry[Any] = Registry().with_resources(
        (one["$id"], Resource.from_contents(one)) for one in read
    )
    checker = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator(schema.read("notification"), registry=registry, format_checker=checker)


@pytest.fixture
def log(world: World, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log in which both hosts tell."""
    caplog.set_level(logging.INFO, "oslo.messaging.notification")
    _tell_by(world, News({"log": MessagingNotifications("log")}))
    return caplog


def _tell_by(world: World, news: News) -> None:
    for host in world.hosts.values():
        host.drivers = dataclasses.replace(host.drivers, notifications=news)


def told(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the messages that the log holds, oldest first; the log starts over."""
    found = [
        json.loads(line.getMessage())
        for line in log.records
        if line.name.startswith("oslo.messaging.notification.")
    ]
    log.clear()
    return found


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def line(message: dict[str, Any], *fields: str) -> str:
    publisher = message["publisher_id"].removeprefix("hostler-worker:")
    facts = message["payload"] | {"priority": message["priority"]}
    return " ".join([publisher, message["event_type"], *(facts[field] for field in fields)]).strip()


def test_a_migration_and_its_confirmation_tell_what_the_seed_tells_line_by_line(
    world: World, log: pytest.LogCaptureFixture, validator: Draft202012Validator
) -> None:
    server = world.add_server()
    migration = world.migrate("web1")
    migrated = told(log)
    assert [line(one, "state", "state_description") for one in migrated] == lines(MIGRATED)
    world.client.confirm("web1", requested_by="tester")
    world.run()
    confirmed = told(log)
    assert [line(one, "state") for one in confirmed] == lines(CONFIRMED)
    for one in migrated + confirmed:
        validator.validate(one)
        assert one["payload"]["instance_id"] == server
        assert one["payload"]["migration_uuid"] == migration.uuid
    hosts = [one["payload"]["host"] for one in migrated + confirmed]
    assert hosts == ["kvm1"] * 6 + ["kvm2"] * 3, (
        "the records have it on the destination from the hand-over on"
    )


def test_a_migration_that_fails_tells_the_error_of_each_phase_that_had_begun(
    world: World, log: pytest.LogCaptureFixture, validator: Draft202012Validator
) -> None:
    world.add_server()
    with failing(step("cold_migration", "FinishMigration"), MigrationError("the guest broke"), when="after"):
        world.migrate("web1")
    messages = told(log)
    assert [line(one, "priority") for one in messages] == lines(FAILED)
    for one in messages:
        validator.validate(one)
    reasons = {one["payload"]["reason"] for one in messages if one["priority"] == "ERROR"}
    assert reasons == {"the guest broke"}


def test_a_migration_that_was_cancelled_tells_whose_wish_it_was(
    world: World, log: pytest.LogCaptureFixture, validator: Draft202012Validator
) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    prepared = step("cold_migration", "Notify resize.start")

    def cancel() -> None:
        world.client.cancel("web1", requested_by="tester", reason="changed my mind")

    with failing(prepared, Unreachable("once"), when="after", also=cancel), pytest.raises(Unreachable):
        world.run()
    world.run()
    assert world.migration(number).outcome == "reverted"
    errors = [one for one in told(log) if one["priority"] == "ERROR"]
    assert [one["event_type"] for one in errors] == [
        "compute.instance.resize.error",
        "compute.instance.resize.prep.error",
    ]
    for one in errors:
        validator.validate(one)
        assert one["payload"]["reason"] == "it was cancelled: changed my mind"


def test_an_unconfirmed_server_tells_the_error(
    world: World, log: pytest.LogCaptureFixture, validator: Draft202012Validator
) -> None:
    world.add_server()
    world.migrate("web1")
    told(log)
    world.client.confirm("web1", requested_by="tester")
    with failing(step("confirm_resize", "RemoveSetAside"), MigrationError("the disk broke"), when="before"):
        world.run()
    messages = told(log)
    for one in messages:
        validator.validate(one)
    assert [line(one, "priority") for one in messages] == [
        "kvm1 compute.instance.resize.confirm.start INFO",
        "kvm1 compute.instance.resize.confirm.error ERROR",
    ]


def test_what_no_schema_allows_is_found(validator: Draft202012Validator) -> None:
    for wrong in ("compute.instance.resize.begin", "compute.instance.exists"):
        assert not validator.is_valid({"event_type": wrong, "payload": {}})


def test_the_schemas_know_every_event_of_the_flows_in_their_order() -> None:
    known = [one["const"] for one in schema.read("notification")["properties"]["event_type"]["oneOf"]]
    for name in flows.FLOWS:
        steps = [task for task in flows.make(name) if isinstance(task, Notify)]
        events = [f"compute.instance.{task.phase}.{task.moment}" for task in steps]
        assert [event for event in known if event in events] == events
        assert {f"compute.instance.{task.phase}.error" for task in steps} <= set(known)


# -- through the outbox -----------------------------------------------------------------------------------


def test_a_flow_ends_while_its_listener_is_away_and_all_of_it_is_told_later(
    world: World, validator: Draft202012Validator
) -> None:
    courier = FakeCourier()
    news = News({"webhook": courier})
    _tell_by(world, news)
    world.add_server()
    assert world.migrate("web1").outcome == "success"
    assert courier.delivered == []
    postman = Postman(world.database, news)
    while postman.deliver():
        pass
    assert [line(one.to_dict(), "state", "state_description") for one in courier.delivered] == lines(MIGRATED)
    for one in courier.delivered:
        validator.validate(one.to_dict())


@pytest.mark.parametrize("sent", [False, True])
def test_a_worker_that_died_behind_its_telling_tells_it_under_the_same_id(world: World, sent: bool) -> None:
    courier = FakeCourier()
    news = News({"webhook": courier})
    _tell_by(world, news)
    world.add_server()
    world.client.migrate("web1", "kvm2", requested_by="tester")
    postman = Postman(world.database, news)

    def send() -> None:
        while sent and postman.deliver():
            pass

    died = failing(
        step("cold_migration", "Notify resize.prep.end"), Unreachable("died"), when="after", also=send
    )
    with died, pytest.raises(Unreachable):
        world.run()
    world.run()
    with world.database.reading() as session:
        rows = [Message.from_dict(row.message) for row in session.scalars(select(OutboxEntry))]
    told_of = [one for one in courier.delivered + rows if one.event_type.endswith("prep.end")]
    assert len(told_of) == 1 + sent
    assert len({one.message_id for one in told_of}) == 1
