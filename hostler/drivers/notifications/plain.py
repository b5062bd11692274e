"""Payloads as every listener may see them: plain JSON values, without secrets."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from typing import Any

from oslo_utils import strutils

from hostler.objects import Record

#: Fields that no listener may see, beside those that oslo.utils knows.
SECRET_FIELDS = frozenset({"key", "psk", "passwd", "xml"})
MASK = "***"


def sanitised(payload: Mapping[Any, Any]) -> dict[str, Any]:
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
        return sanitised(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, str):
        return strutils.mask_password(value, MASK)
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)
