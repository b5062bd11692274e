"""What is typed, and whether the records could hold it."""

from __future__ import annotations

import argparse
import re

from hostler.records import instances

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
