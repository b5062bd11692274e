"""Notifications through oslo.messaging: by those of its drivers that need no broker, and through RabbitMQ."""

from __future__ import annotations

import warnings
from typing import Any

from oslo_config import cfg

from hostler.drivers.notifications import Message
from hostler.errors import BadConfiguration, ServerUnreachable

with warnings.catch_warnings():
    # Both load eventlet where it is installed, which then complains of itself; nothing here uses it.
    warnings.simplefilter("ignore")
    from oslo_service import backend

    # oslo.messaging takes eventlet's backend unless somebody chose before it is imported.
    backend.init_backend(backend.BackendType.THREADING)
    import oslo_messaging
    from oslo_messaging.notify.messaging import MessagingV2Driver

#: oslo.messaging's notification drivers that wait for nobody.
DRIVERS = ("log", "noop")
#: Transports that keep a message for a listener; ``fake`` keeps it in this process.
TRANSPORTS = ("rabbit", "kombu")
#: oslo.messaging's own settings, in the section that it gives them.
RABBIT = "oslo_messaging_rabbit"


class MessagingNotifications:
    """The :class:`~hostler.drivers.notifications.Notifier` of oslo.messaging.

    *driver*: ``log`` writes each event to the log as JSON, ``noop`` drops it. oslo.messaging gives each line
    an id of its own.
    """

    def __init__(self, driver: str = "log") -> None:
        if driver not in DRIVERS:
            problem = f"no driver is called {driver!r}; there are: {', '.join(DRIVERS)}"
            raise BadConfiguration(where="[drivers] notifications", problem=problem)
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        transport = oslo_messaging.get_notification_transport(conf, url="fake://")
        self._notifier = oslo_messaging.Notifier(transport, driver=driver)

    def notify(self, message: Message) -> None:
        """Hand one event to oslo.messaging, which logs whatever goes wrong."""
        notifier = self._notifier.prepare(publisher_id=message.publisher_id)
        send = notifier.error if message.priority == "ERROR" else notifier.info
        send({}, message.event_type, message.payload)


class BrokerCourier:
    """The :class:`~hostler.drivers.notifications.Courier` of oslo.messaging's driver ``messagingv2``.

    A message counts as delivered when the broker has confirmed it. It goes to the queue
    ``<topic>.<priority>`` of each topic, which is made if it is not there and outlives a restart of the broker.
    """

    def __init__(self, conf: cfg.ConfigOpts, url: str, topics: list[str]) -> None:
        """*conf* is where oslo.messaging finds its section ``[oslo_messaging_rabbit]``."""
        self._transport, self._address = _transport(conf, url)
        self._driver = ConfirmingDriver(conf, topics=topics, transport=self._transport)

    def deliver(self, message: Message) -> None:
        """See :class:`~hostler.drivers.notifications.Courier`."""
        try:
            self._driver.notify({}, message.to_dict(), message.priority, retry=0)
        except Exception as error:  # kombu and amqp each have roots of their own
            raise ServerUnreachable(
                what="the message broker", where=self._address, reason=str(error) or type(error).__name__
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._transport.cleanup()


class ConfirmingDriver(MessagingV2Driver):
    """oslo.messaging's ``messagingv2``, but for one thing: a message that was not sent is not only logged.

    Its notifier forgets what could not be sent, and gives each attempt another id: that is why it is passed by.
    """

    def notify(self, ctxt: dict[str, Any], message: dict[str, Any], priority: str, retry: int) -> None:
        """Send *message*, or raise."""
        for topic in self.topics:
            target = oslo_messaging.Target(topic=f"{topic}.{priority.lower()}")
            # A copy: the transport writes its own fields into the message.
            self.transport._send_notification(target, ctxt, dict(message), version=self.version, retry=retry)


def _transport(conf: cfg.ConfigOpts, url: str) -> tuple[Any, str]:
    """Return oslo.messaging's transport and the broker's address, without user and password."""
    where = "[notifications] transport_url"
    hint = "hostler config sample; transport_url = rabbit://user:password@broker:5672/"
    if not url:
        raise BadConfiguration(where=where, problem="it is not set, and messagingv2 needs it", hint=hint)
    try:
        transport = oslo_messaging.get_notification_transport(conf, url=url)
        parts = oslo_messaging.TransportURL.parse(conf, url)
        address = ", ".join(f"{host.hostname}:{host.port}" for host in parts.hosts if host.hostname)
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure, ValueError):
        address = ""
    if not address or parts.transport not in TRANSPORTS:
        problem = f"it is no address of a RabbitMQ; it must begin with {TRANSPORTS[0]}://"
        raise BadConfiguration(where=where, problem=problem, hint=hint)
    # Else what the broker has confirmed would be gone when it restarts; the operator's own word counts.
    conf.set_default("amqp_durable_queues", True, group=RABBIT)
    return transport, address


def log_from_conf(_conf: cfg.ConfigOpts) -> MessagingNotifications:
    """Make the driver ``log``."""
    return MessagingNotifications("log")


def noop_from_conf(_conf: cfg.ConfigOpts) -> MessagingNotifications:
    """Make the driver ``noop``."""
    return MessagingNotifications("noop")


def broker_from_conf(conf: cfg.ConfigOpts) -> BrokerCourier:
    """Make the driver ``messagingv2``."""
    return BrokerCourier(conf, conf.notifications.transport_url or "", conf.notifications.topics)
