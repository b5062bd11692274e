"""Every event of a migration reaches RabbitMQ, in order, also when it is away; and no migration waits for it."""

from __future__ import annotations

import dataclasses
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kombu
import pytest
from oslo_config import cfg

from hostler import drivers
from hostler.drivers.notifications.news import News
from hostler.drivers.notifications.news import from_conf as news_from_conf
from hostler.errors import ServerUnreachable
from hostler.jobboard.postman import Postman
from hostler.tasks.base import Leg
from lab.process import wait_until
from lab.services import RabbitMQ
from tests.functional.jobboard import yard as yards
from tests.functional.jobboard.yard import Yard
from tests.support.listener import CONFIRMED, MIGRATED, Listener
from tests.support.world import World, step
from tests.unit.drivers.notifications.messages import message

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def yard(tmp_path: Path, zookeeper_hosts: str) -> Iterator[Yard]:
    """Two hosts whose drivers do nothing, for real workers."""
    with Yard(tmp_path, zookeeper_hosts, f"sqlite:///{tmp_path}/records.db") as made:
        yield made


@pytest.fixture
def exchange() -> str:
    """Where this test's messages go."""
    return f"test-{uuid.uuid4().hex[:8]}"


def configured(conf: cfg.ConfigOpts, broker: RabbitMQ, exchange: str) -> News:
    """Return the drivers that the settings name, with oslo.messaging's own settings beside ours."""
    conf.set_override("notifications", ["messagingv2", "log"], "drivers")
    conf.set_override("transport_url", broker.url, "notifications")
    drivers.load("notifications", "messagingv2")(conf)  # oslo.messaging's settings are known from here on
    conf.set_override("control_exchange", exchange)
    return news_from_conf(conf)


@pytest.fixture
def news(world: World, broker: RabbitMQ, exchange: str) -> Iterator[News]:
    """What both hosts of the world tell by."""
    made = configured(world.conf, broker, exchange)
    for host in world.hosts.values():
        host.drivers = dataclasses.replace(host.drivers, notifications=made)
    yield made
    made.close()


def test_every_event_of_a_migration_and_its_confirmation_arrives_in_order(
    world: World, news: News, broker: RabbitMQ, exchange: str
) -> None:
    listener = Listener(broker, exchange)
    server = world.add_server()
    with Postman(world.database, news).at_work():
        world.migrate("web1")
        world.client.confirm("web1", requested_by="tester")
        world.run()
        assert listener.listen(9) == MIGRATED + CONFIRMED
    assert {one["payload"]["instance_id"] for one in listener.messages} == {server}
    assert {one["publisher_id"] for one in listener.messages} == {
        "hostler-worker:kvm1",
        "hostler-worker:kvm2",
    }
    assert len({one["message_id"] for one in listener.messages}) == 9


def test_a_broker_that_dies_in_the_middle_of_a_migration_gets_all_of_it_when_it_is_back(
    world: World, news: News, broker: RabbitMQ, exchange: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "hostler.jobboard.postman")
    listener = Listener(broker, exchange)
    world.add_server()
    postman = Postman(world.database, news, retry_interval_max_s=1)
    with postman.at_work(), during("CopyImages", lambda: (listener.listen(4), broker.kill())):
        migration = world.migrate("web1")
        assert (migration.phase, migration.outcome) == ("closed", "success")
        world.client.confirm("web1", requested_by="tester")
        world.run()
        assert world.migration(migration.uuid).status == "confirmed", "it waits for no broker"
        assert listener.event_types == MIGRATED[:4]
        wait_until(lambda: "the message broker does not answer" in caplog.text, "a try", 20)
        broker.start()
        assert listener.listen(9) == MIGRATED + CONFIRMED


def test_what_the_broker_has_taken_outlives_it(
    world: World, news: News, broker: RabbitMQ, exchange: str
) -> None:
    listener = Listener(broker, exchange)
    (courier,) = news.couriers.values()
    courier.deliver(message("a", message_id="1"))
    broker.kill()
    with pytest.raises(ServerUnreachable, match=r"the message broker does not answer at 127\.0\.0\.1:"):
        courier.deliver(message("b", message_id="2"))
    broker.start()
    courier.deliver(message("b", message_id="2"))
    assert listener.listen(2) == ["a", "b"]
    assert [one["message_id"] for one in listener.messages] == ["1", "2"]


def test_a_message_that_nobody_listens_to_waits_in_the_queue_of_its_topic(
    news: News, broker: RabbitMQ
) -> None:
    (courier,) = news.couriers.values()
    courier.deliver(message("compute.instance.resize.error", priority="ERROR"))
    with kombu.Connection(broker.url.replace("rabbit://", "amqp://")) as connection:
        queue = kombu.Queue("notifications.error", durable=True)(connection.channel())
        got = queue.get(no_ack=True)
        assert got is not None
        assert "compute.instance.resize.error" in str(got.body)


def test_workers_deliver_whoever_told_it_and_go_on_without_a_broker(
    yard: Yard, broker: RabbitMQ, exchange: str
) -> None:
    listener = Listener(broker, exchange)
    broker.kill()
    for host, has in yard.drivers.items():
        conf = yard.new_conf(host)
        yard.drivers[host] = dataclasses.replace(has, notifications=configured(conf, broker, exchange))
    workers = [yard.start_worker(host, notifications__retry_interval_max=1.0) for host in yards.HOSTS]
    number = yard.ask("cold_migration")
    assert yard.wait_for_end(number).outcome == "success"
    # The destination's worker, which told most of it, is gone before the broker is back.
    worker, thread = workers[1]
    worker.stop()
    thread.join(30)
    assert not thread.is_alive()
    broker.start()
    assert listener.listen(7) == MIGRATED
    assert "postman" in {thread.name for thread in threading.enumerate()}


@contextmanager
def during(name: str, action: Callable[[], object]) -> Iterator[None]:
    """Do *action* when a step of the migration begins."""
    task = step("cold_migration", name)
    real = task.execute

    def execute(leg: Leg, **arguments: Any) -> Any:
        action()
        return real(leg=leg, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "execute", execute)
        yield
