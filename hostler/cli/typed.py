"""What is typed, and whether the records could hold it."""

from __future__ import annotations

import argparse
import datetime
import re

from hostler import networks
from hostler.records import instances
from hostler.records.models import now

#: Letters of a name or a reason.
LONGEST = 255


#: What a rate may be followed by, and how many bytes that is.
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([kmg]?)(?:i?b)?(?:/s)?", re.ASCII | re.IGNORECASE)


def rate(text: str) -> int | None:
    """Return what was typed as a rate, bytes a second, None for no limit; for argparse."""
    if text.lower() == "none":
        return None
    typed = _RATE.fullmatch(text)
    if typed is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate: write 100M, 1.5G or none")
    found = int(float(typed[1]) * _UNITS[typed[2].lower()])
    if not 1 <= found < 1 << 62:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; a copy is stopped by hostler migration pause")
    return found


def storable(text: str) -> str:
    """Return what was typed as a name or a reason; for argparse."""
    if not text.strip() or len(text) > LONGEST or not instances.storable(text):
        raise argparse.ArgumentTypeError(f"1 to {LONGEST} letters are needed, and not only spaces")
    return text


def network_pair(text: str) -> tuple[str, str]:
    """Return both sides of what was typed as ``br0=br1``; for argparse."""
    try:
        return networks.read_pair(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNITS_OF_TIME = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str) -> datetime.datetime:
    """Return what was typed as a time, in UTC without a zone as the records have it; for argparse.

    A date, a time in the operator's own zone or with one (ISO 8601), or how long ago: ``45m``, ``2h``, ``3d``.
    """
    try:
        if ago := _AGO.fullmatch(text):
            return now() - datetime.timedelta(**{_UNITS_OF_TIME[ago[2]]: int(ago[1])})
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-03-01, 2026-03-01T12:30 or 2h"
        ) from None
