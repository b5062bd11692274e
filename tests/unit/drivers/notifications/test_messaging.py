"""oslo.messaging's drivers that need no broker, and what is refused of the one that needs it."""

from __future__ import annotations

import json
import logging

import pytest

from hostler import conf
from hostler.drivers.notifications import Courier, Notifier
from hostler.drivers.notifications.fake import FakeNotifications, Sent
from hostler.drivers.notifications.messaging import MessagingNotifications, broker_from_conf
from hostler.errors import BadConfiguration, ServerUnreachable
from lab.sockets import free_port
from tests.unit.drivers.notifications.messages import message


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_an_event_reaches_the_log_as_json(log: pytest.LogCaptureFixture) -> None:
    MessagingNotifications().notify(message("compute.instance.resize.start", host="kvm1"))
    (entry,) = log.records
    event = json.loads(entry.getMessage())
    assert entry.levelno == logging.INFO
    assert entry.name == "oslo.messaging.notification.compute.instance.resize.start"
    assert event["publisher_id"] == "hostler-worker:kvm1"
    assert event["event_type"] == "compute.instance.resize.start"
    assert event["payload"] == {"host": "kvm1"}


def test_an_error_has_the_priority_of_one(log: pytest.LogCaptureFixture) -> None:
    MessagingNotifications().notify(message("compute.instance.resize.error", priority="ERROR"))
    assert log.records[0].levelno == logging.ERROR
    assert json.loads(log.records[0].getMessage())["priority"] == "ERROR"


def test_noop_says_nothing(log: pytest.LogCaptureFixture) -> None:
    MessagingNotifications("noop").notify(message("compute.instance.resize.start"))
    assert log.records == []


def test_an_unknown_driver_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadConfiguration, match="no driver is called 'pigeon'; there are: log, noop"):
        MessagingNotifications("pigeon")


@pytest.mark.parametrize(
    "url", [None, "", "fake://", "http://broker", "pigeon://broker", "rabbit:/", "rubbish"]
)
def test_what_is_no_address_of_a_broker_is_refused(url: str | None) -> None:
    settings = conf.load(["/dev/null"])
    settings.set_override("transport_url", url, "notifications")
    with pytest.raises(BadConfiguration, match=r"^\[notifications\] transport_url: ") as refused:
        broker_from_conf(settings)
    assert "rabbit://" in refused.value.hint


def test_a_broker_that_is_away_is_named_without_its_password() -> None:
    port = free_port()
    settings = conf.load(["/dev/null"])
    settings.set_override("transport_url", f"rabbit://user:c0ffee@127.0.0.1:{port}/", "notifications")
    courier = broker_from_conf(settings)
    told: Courier = courier
    with pytest.raises(ServerUnreachable, match=f"does not answer at 127.0.0.1:{port}: ") as error:
        told.deliver(message("compute.instance.exists"))
    assert "c0ffee" not in str(error.value)
    courier.close()


def test_the_fake_keeps_what_was_sent() -> None:
    fake = FakeNotifications()
    told: Notifier = fake
    told.notify(message("a", x=1))
    told.notify(message("b", priority="ERROR"))
    assert fake.sent == [Sent("a", {"x": 1}, False), Sent("b", {}, True)]
    assert fake.event_types == ["a", "b"]
