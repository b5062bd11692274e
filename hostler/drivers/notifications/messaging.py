"""Notifications through oslo.messaging's notifier, by those of its drivers that need no broker."""

from __future__ import annotations

import datetime
import enum
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_utils import strutils

from hostler.errors import BadConfiguration
from hostler.objects import Record

with warnings.catch_warnings():
    # Both load eventlet where it is installed, which then complains of itself; nothing here uses it.
    warnings.simplefilter("ignore")
    from oslo_service import backend

    # oslo.messaging takes eventlet's backend unless somebody chose before it is imported.
    backend.init_backend(backend.BackendType.THREADING)
    import oslo_messaging

LOG = logging.getLogger(__name__)

#: oslo.messaging's notification drivers that wait for nobody.
DRIVERS = ("log", "noop")
#: Fields that no listener may see, beside those that oslo.utils knows.
SECRET_FIELDS = frozenset({"key", "psk", "passwd", "xml"})
MASK = "***"


class MessagingNotifications:
    """The :class:`~hostler.drivers.notifications.Notifications` of oslo.messaging.

    *driver*: ``log`` writes each event to the log as JSON, ``noop`` drops it. The publisher is
    ``hostler-worker:<host>``.
    """

    def __init__(self, host: str, driver: str = "log") -> None:
        if driver not in DRIVERS:
            problem = f"no driver is called {driver!r}; there are: {', '.join(DRIVERS)}"
            raise BadConfiguration(where="[drivers] notifications", problem=problem)
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        transport = oslo_messaging.get_notification_transport(conf, url="fake://")
        self._notifier = oslo_messaging.Notifier(transport, f"hostler-worker:{host}", driver=driver)

    def notify(self, event_type: str, payload: dict[str, Any], *, error: bool = False) -> None:
        """Send one event; what goes wrong goes to the log."""
        try:
            send = self._notifier.error if error else self._notifier.info
            send({}, event_type, sanitised(payload))
        except Exception:
            LOG.exception("notification %s was not sent", event_type)


def from_conf(conf: cfg.ConfigOpts) -> MessagingNotifications:
    """Make the driver of the settings."""
    return MessagingNotifications(conf.host, conf.drivers.notifications)


def sanitised(payload: dict[str, Any]) -> dict[str, Any]:
    """Return *payload* as plain JSON values without secrets."""
    plain = {str(key): MASK if _is_secret(key) else _plain(value) for key, value in payload.items()}
    masked: dict[str, Any] = strutils.mask_dict_password(plain, MASK)
    return masked


def _is_secret(key: object) -> bool:
    return str(key).lower() in SECRET_FIELDS


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return sanitised(dict(value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, str):
        return strutils.mask_password(value, MASK)
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)
