"""The drawing of a flow for a terminal of any width: a rail for each host, a knot for each of its steps.

Of plain ASCII and without colours: every state stands there as a word.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from hostler.flows.graph import Drawing, prose, symbols, visible
from hostler.flows.shape import SOURCE

_KNOT, _RAIL = "*", "|"
_LEAST = 20  #: columns of words, however narrow the terminal says that it is


def render(drawing: Drawing) -> str:
    """Return the drawing, its lines no longer than *drawing.width*."""
    return "\n".join(line.rstrip() for line in _lines(drawing)) + "\n"


def _lines(drawing: Drawing) -> Iterator[str]:
    if drawing.title:
        yield from _wrapped(drawing, visible(drawing.title))
        yield ""
    yield from _wrapped(drawing, visible(drawing.source))
    yield from _wrapped(drawing, visible(drawing.dest), f"{_RAIL} ")
    for index in range(len(drawing.steps)):
        yield from _step(drawing, index)


def _step(drawing: Drawing, index: int) -> Iterator[str]:
    step, mark = drawing.steps[index], drawing.mark(index)
    knot, rails = f"{_KNOT} {_RAIL} ", f"{_RAIL} {_RAIL} "
    if step.where != SOURCE:
        knot = f"{_RAIL} {_KNOT} "
    number = f"{index + 1:>{len(str(len(drawing.steps)))}} "
    indented = rails + " " * len(number)
    name = visible(step.name)
    head = f"{name}: {mark.label(drawing.at)}" if drawing.live else name
    yield from _wrapped(drawing, head, knot + number, indented)
    said = [symbols(step), *filter(None, (mark.error, mark.undo_error)), f"undo: {drawing.undo(index)}"]
    for words in filter(None, said):
        yield from _wrapped(drawing, prose(words), indented, indented)
    if step.point_of_no_return:
        turning = f"-- point of no return: once {name} is done, nothing above is undone --"
        yield from _wrapped(drawing, turning, rails, rails)


def _wrapped(drawing: Drawing, words: str, first: str = "", rest: str = "") -> list[str]:
    if drawing.width is None:
        return [first + words]
    width = max(drawing.width, _LEAST + len(first))
    return textwrap.wrap(words, width, initial_indent=first, subsequent_indent=rest or first)
