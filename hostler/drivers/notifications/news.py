"""The drivers of the settings, as the steps of a flow see them: as one."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping

from oslo_config import cfg

from hostler.drivers import load
from hostler.drivers.notifications import Courier, Message, Notifier
from hostler.drivers.notifications.plain import sanitised
from hostler.records import outbox
from hostler.records.fence import FencedRecords

LOG = logging.getLogger(__name__)


class News:
    """Tells each event to every driver: at once, or through the outbox."""

    def __init__(self, drivers: Mapping[str, Notifier | Courier]) -> None:
        """*drivers*: by their names in the settings."""
        self.couriers = {name: driver for name, driver in drivers.items() if isinstance(driver, Courier)}
        #: set whenever something was put into the outbox
        self.queued = threading.Event()
        self._notifiers = [driver for driver in drivers.values() if not isinstance(driver, Courier)]

    def tell(self, records: FencedRecords, message: Message) -> None:
        """Tell one event; it never fails a step by an error of its own, and never waits for a listener.

        For couriers it is one fenced write; told twice under one id, it lies in the outbox once.
        """
        try:
            message = dataclasses.replace(message, payload=sanitised(message.payload))
            for notifier in self._notifiers:
                notifier.notify(message)
            if self.couriers:
                with records.transaction() as session:
                    outbox.put(session, records.migration, sorted(self.couriers), message.to_dict())
                self.queued.set()
        except Exception:
            LOG.exception("notification %s was not sent", message.event_type)

    def close(self) -> None:
        """Let go of the couriers' connections."""
        for courier in self.couriers.values():
            courier.close()


def from_conf(conf: cfg.ConfigOpts) -> News:
    """Make the drivers of the settings; a name that is none is :class:`~hostler.errors.BadConfiguration`."""
    return News({name: load("notifications", name)(conf) for name in conf.drivers.notifications})
