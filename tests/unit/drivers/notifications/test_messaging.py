"""Notifications: told under Nova's names, without secrets, and never in the way of a migration."""

from __future__ import annotations

import datetime
import json
import logging

import pytest

from hostler.drivers.notifications import Notifications
from hostler.drivers.notifications.fake import FakeNotifications, Sent
from hostler.drivers.notifications.messaging import MessagingNotifications, sanitised
from hostler.errors import BadConfiguration
from hostler.objects import PowerState, ReceiverAddress


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_an_event_reaches_the_log_as_json(log: pytest.LogCaptureFixture) -> None:
    MessagingNotifications("kvm1").notify("compute.instance.resize.start", {"host": "kvm1"})
    (entry,) = log.records
    event = json.loads(entry.getMessage())
    assert entry.levelno == logging.INFO
    assert entry.name == "oslo.messaging.notification.compute.instance.resize.start"
    assert event["publisher_id"] == "hostler-worker:kvm1"
    assert event["event_type"] == "compute.instance.resize.start"
    assert event["payload"] == {"host": "kvm1"}


def test_an_error_has_the_priority_of_one(log: pytest.LogCaptureFixture) -> None:
    MessagingNotifications("kvm1").notify("compute.instance.resize.error", {}, error=True)
    assert log.records[0].levelno == logging.ERROR
    assert json.loads(log.records[0].getMessage())["priority"] == "ERROR"


def test_noop_says_nothing(log: pytest.LogCaptureFixture) -> None:
    MessagingNotifications("kvm1", "noop").notify("compute.instance.resize.start", {})
    assert log.records == []


def test_no_secret_gets_out() -> None:
    address = ReceiverAddress(host="10.0.0.2", port=20900, username="m", key="c0ffee")
    told = json.dumps(
        sanitised(
            {
                "receiver": address,
                "all": [{"password": "c0ffee"}, {"deep": {"auth_token": "c0ffee", "psk": "c0ffee"}}],
                "xml": "<graphics passwd='c0ffee'/>",
                "said": 'could not log in with {"password": "c0ffee"}',
            }
        )
    )
    assert "c0ffee" not in told
    assert "10.0.0.2" in told


def test_what_is_no_json_becomes_some() -> None:
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    payload = {
        "state": PowerState.RUNNING,
        "at": when,
        "hosts": ("a", "b"),
        "error": ValueError("no"),
        1: None,
    }
    assert sanitised(payload) == {  # type: ignore[arg-type]
        "state": "running",
        "at": "2026-01-02T00:00:00+00:00",
        "hosts": ["a", "b"],
        "error": "no",
        "1": None,
    }


def test_news_that_cannot_be_told_fail_nobody(log: pytest.LogCaptureFixture) -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    MessagingNotifications("kvm1").notify("compute.instance.resize.start", {"it": Unspeakable()})
    assert log.records[-1].getMessage() == "notification compute.instance.resize.start was not sent"


def test_an_unknown_driver_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadConfiguration, match="no driver is called 'pigeon'; there are: log, noop"):
        MessagingNotifications("kvm1", "pigeon")


def test_the_fake_keeps_what_was_sent() -> None:
    fake = FakeNotifications()
    told: Notifications = fake
    told.notify("a", {"x": 1})
    told.notify("b", {}, error=True)
    assert fake.sent == [Sent("a", {"x": 1}, False), Sent("b", {}, True)]
    assert fake.event_types == ["a", "b"]
