"""A record that travels as JSON."""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import Any, Self, get_args, get_origin, get_type_hints


class Record:
    """Mixin: a dataclass that becomes JSON and comes back."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, strings and numbers."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the record from :meth:`to_dict`'s result; unknown keys are a :class:`TypeError`."""
        hints: dict[str, Any] = _hints(cls)  # type: ignore[arg-type]
        return cls(**{key: _revive(hints.get(key, Any), value) for key, value in data.items()})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _revive(hint: Any, value: Any) -> Any:
    if get_origin(hint) is list and value is not None:
        (inner,) = get_args(hint)
        return [_revive(inner, item) for item in value]
    if isinstance(hint, type) and issubclass(hint, Record) and isinstance(value, dict):
        return hint.from_dict(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    for option in get_args(hint):
        if isinstance(option, type) and issubclass(option, Record) and isinstance(value, dict):
            return option.from_dict(value)
    return value
