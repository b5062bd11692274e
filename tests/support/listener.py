"""What reads a broker's messages as any program would that listens."""

from __future__ import annotations

import json
from typing import Any

import kombu

from lab.process import wait_until
from lab.services import RabbitMQ

MIGRATED = [
    "compute.instance.exists",
    "compute.instance.resize.prep.start",
    "compute.instance.resize.prep.end",
    "compute.instance.resize.start",
    "compute.instance.resize.end",
    "compute.instance.finish_resize.start",
    "compute.instance.finish_resize.end",
]
REVERTED = [
    "compute.instance.exists",
    "compute.instance.resize.revert.start",
    "compute.instance.resize.revert.end",
]
CONFIRMED = ["compute.instance.resize.confirm.start", "compute.instance.resize.confirm.end"]


class Listener:
    """Reads what the broker has, from one durable queue for all priorities; drops what it has seen by its id.

    A broker that is killed may forget that a message was read, as a sender may that it was sent.
    """

    def __init__(self, broker: RabbitMQ, exchange: str) -> None:
        self._url = broker.url.replace("rabbit://", "amqp://")
        self._queue = kombu.Queue(
            f"all-of-{exchange}",
            kombu.Exchange(exchange, type="topic", durable=True),
            routing_key="notifications.*",
            durable=True,
        )
        self.messages: list[dict[str, Any]] = []
        with self._connection() as connection:
            self._queue(connection.channel()).declare()

    @property
    def event_types(self) -> list[str]:
        return [one["event_type"] for one in self.messages]

    def of(self, instance: str) -> list[str]:
        """Return the names of the events of one server that were read so far."""
        return [one["event_type"] for one in self.messages if one["payload"].get("instance_id") == instance]

    def _connection(self) -> kombu.Connection:
        return kombu.Connection(self._url, connect_timeout=5)

    def listen(self, count: int, timeout_s: float = 30) -> list[str]:
        """Read until there are *count* messages in all, and no more than those; return the events' names."""
        with self._connection() as connection:
            queue = self._queue(connection.channel())

            def came() -> bool:
                while (got := queue.get(no_ack=True)) is not None:
                    envelope = json.loads(got.body) if isinstance(got.body, (str, bytes)) else got.payload
                    told = json.loads(envelope["oslo.message"])
                    if told["message_id"] not in {one["message_id"] for one in self.messages}:
                        self.messages.append(told)
                return len(self.messages) >= count

            wait_until(came, f"{count} messages", timeout_s)
        return self.event_types
