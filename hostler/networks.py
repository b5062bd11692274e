"""What a server's networks and bridges are to be called on its next host, as an operator says it: ``br0=br1``.

A side is ``bridge:br0``, ``network:lab`` or ``direct:eth0``; a name alone means whatever of these is called so. In the
records a name alone is ``:br0``, so that nobody takes a network called ``bridge:br0`` for a bridge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostler.objects import PLUGGED

#: What a request may say: pairs, and letters of a name. The records and a terminal have room for these.
MOST, LONGEST = 64, 255


def read_pair(text: str) -> tuple[str, str]:
    """Return both sides of ``a=b``; :class:`ValueError` says what is wrong with them.

    Where a name has ``=`` in it, a kind before both sides tells which one is between them.
    """
    kind = text.partition(":")[0]
    if kind in PLUGGED and f"={kind}:" in text:
        there, _, here = text.partition(f"={kind}:")
        sides = there, f"{kind}:{here}"
    else:
        there, _, here = text.partition("=")
        sides = _side(there), _side(here)
    kinds, names = zip(*(side.split(":", 1) for side in sides), strict=True)
    if kinds[0] != kinds[1]:
        raise ValueError(f"{text!r} makes another kind of it: a definition says in one word which it is")
    if not all(name and name.isprintable() and len(name) <= LONGEST for name in names):
        raise ValueError(f"{text!r} is not of the form br0=br1, bridge:br0=bridge:br1 or network:a=network:b")
    return sides


def _side(text: str) -> str:
    return text if text.partition(":")[0] in PLUGGED and ":" in text else f":{text}"


def renamed(source: str, asked: Mapping[str, str]) -> str | None:
    """Return what *source* (``bridge:br0``) is called there; None if *asked* says nothing of it."""
    kind, _, name = source.partition(":")
    if (here := asked.get(source)) is not None:
        return here
    here = asked.get(f":{name}")
    return None if here is None else f"{kind}{here}"


def unused(asked: Mapping[str, str], sources: Iterable[str]) -> list[str]:
    """Return what is named in *asked*, as it was typed, and is none of *sources*."""
    known = {name for source in sources for name in (source, f":{source.partition(':')[2]}")}
    return [_typed(there) for there in asked if there not in known]


def words(asked: Mapping[str, str] | None) -> list[str]:
    """Return the words of a command that ask for it."""
    return [f"--map-network={pair}" for pair in pairs(asked)]


def pairs(asked: Mapping[str, str] | None) -> list[str]:
    """Return the pairs as they were typed."""
    return [f"{_typed(there)}={_typed(here)}" for there, here in (asked or {}).items()]


def _typed(side: str) -> str:
    return side.removeprefix(":")
