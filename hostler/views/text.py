"""How names, sizes and times are written for an operator."""

from __future__ import annotations

import datetime
import re
import shlex

KIB = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE = 60
_HOUR = 3600
_FEW = 10  #: seconds below which tenths matter
_HUNDRED = 100
#: Stands for the space between a number and its unit while lines are broken: nothing takes it for one. It is not
#: printable, so that no text has it.
_GLUE = "\uf8ff"
_QUANTITY = re.compile(r"(?<=\d) (?=(?:s|B|[KMGTP]iB|vCPUs)\b)")
#: Characters of an error that are shown: a tool may fail with a megabyte of words.
LONGEST = 4000


def printable(text: object) -> str:
    """Return *text* on one line and without a character that a terminal would act upon.

    Names and errors come from domains and guests: whoever may name a domain must not steer the operator's
    terminal, nor turn the direction of the writing.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in str(text))


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def together(text: str) -> str:
    """Return *text* so that no line is broken between a number and its unit; :func:`apart` is for what came of it."""
    return _QUANTITY.sub(_GLUE, text)


def apart(text: str) -> str:
    """Return what came of :func:`together`, once it was broken into lines."""
    return text.replace(_GLUE, " ")


def size(count: int | float) -> str:
    """Return a number of bytes as ``1.5 GiB``."""
    amount = float(count)
    power = _power(amount)
    return f"{_number(amount, power)} {_UNITS[power]}"


def size_of(done: int, total: int) -> str:
    """Return ``1.5 of 4.0 GiB``."""
    power = _power(total)
    return f"{_number(done, power)} of {_number(total, power)} {_UNITS[power]}"


def _power(amount: float) -> int:
    power = 0
    while abs(amount) >= KIB and power < len(_UNITS) - 1:
        amount /= KIB
        power += 1
    return power


def _number(amount: float, power: int) -> str:
    scaled = amount / KIB**power
    return f"{scaled:.1f}" if power and scaled < _HUNDRED else f"{scaled:.0f}"


def duration(seconds: float) -> str:
    """Return ``2.1 s``, ``45 s``, ``3:05`` or ``2:03:05``."""
    seconds = max(seconds, 0.0)
    if seconds < _FEW:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    minutes, rest = divmod(whole, _MINUTE)
    if whole < _HOUR:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def local(moment: datetime.datetime) -> datetime.datetime:
    """Return a moment of the records (UTC without a zone) in the operator's time zone."""
    return moment.replace(tzinfo=datetime.UTC).astimezone()


def clock(moment: datetime.datetime) -> str:
    """Return the time of day of a moment of the records."""
    return local(moment).strftime("%H:%M:%S")


def stamp(moment: datetime.datetime | None) -> str | None:
    """Return a moment of the records as ISO 8601 with its zone."""
    return None if moment is None else moment.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")


def command(*words: str, fallback: str | None = None) -> str:
    """Return a ``hostler`` command that can be pasted into a shell.

    The last word may be anybody's text: *fallback* (a UUID) stands in where it cannot be typed.
    """
    *verb, name = words
    if fallback is not None and not name.isprintable():
        name = fallback
    dashes = ["--"] if name.startswith("-") else []
    return shlex.join(["hostler", *verb, *dashes, name])


def cut(text: str, width: int, ellipsis: str = "...") -> str:
    """Return *text* in at most *width* characters."""
    return text if len(text) <= width else text[: max(width - len(ellipsis), 0)] + ellipsis[:width]


def shortened(text: str) -> str:
    """Return *text*, or the beginning of one that is longer than anybody reads; a log has it whole."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text)} characters in all)"
