"""A migration's events by the webhook: all of them, in order, also when the listener was not well."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest

from hostler.drivers.notifications.news import News
from hostler.drivers.notifications.webhook import WebhookCourier
from hostler.jobboard.postman import Postman
from lab.process import wait_until
from tests.functional.notifications.test_rabbitmq import MIGRATED
from tests.support.world import World
from tests.unit.drivers.notifications.test_webhook import SECRET, Listener, listening


def events(listener: Listener) -> list[str]:
    return [json.loads(body)["event_type"] for _, _, body in listener.got]


def test_a_listener_that_was_not_well_is_told_all_of_it_afterwards(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "hostler.jobboard.postman")
    with listening() as listener:
        listener.answer = 503
        news = News({"webhook": WebhookCourier(listener.url, SECRET)})
        for host in world.hosts.values():
            host.drivers = dataclasses.replace(host.drivers, notifications=news)
        world.add_server()
        with Postman(world.database, news, retry_interval_max_s=1).at_work():
            assert world.migrate("web1").outcome == "success"
            wait_until(lambda: "it answered 503" in caplog.text, "a try", 20)
            refused = len(listener.got)
            listener.answer = 204
            wait_until(lambda: events(listener)[-1] == MIGRATED[-1], "the last event", 30)
        told = events(listener)
        assert told[:refused] == MIGRATED[:1] * refused
        assert list(dict.fromkeys(told)) == MIGRATED
