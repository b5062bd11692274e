"""Drawings of a flow: before it runs, while it runs, and after.

A drawing needs the steps only, so it can be made without a host; with *marks* it also shows how far each
step is.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hostler.flows.shape import DEST, SOURCE, Step

PENDING = "pending"
RUNNING = "running"
DONE = "done"
FAILED = "failed"
UNDOING = "undoing"
UNDONE = "undone"
UNDO_FAILED = "undo failed"
STATES = (PENDING, RUNNING, DONE, FAILED, UNDOING, UNDONE, UNDO_FAILED)

#: Fill and border of each state, for the formats that know no style sheet.
COLOURS = {
    PENDING: ("#ffffff", "#9ca3af"),
    RUNNING: ("#dbeafe", "#2563eb"),
    DONE: ("#dcfce7", "#15803d"),
    FAILED: ("#fee2e2", "#dc2626"),
    UNDOING: ("#fef3c7", "#b45309"),
    UNDONE: ("#f3e8ff", "#7e22ce"),
    UNDO_FAILED: ("#fecaca", "#7f1d1d"),
}


_MARKUP = re.compile(r"``([^`]+)``|(?<!\w)\*(\w[^*]*)\*(?!\w)")


@dataclass(frozen=True)
class Mark:
    """How far one step is. Times are UTC without a zone; the undo's once it is being undone."""

    state: str = PENDING
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    error: str | None = None  #: what made it fail, also after it was undone
    undo_error: str | None = None

    @property
    def backward(self) -> bool:
        """Whether the flow has come back to this step, or passed it on its way back."""
        return self.state in (UNDOING, UNDONE, UNDO_FAILED)

    @property
    def words(self) -> str:
        """The state, and that it failed before it was undone."""
        return f"failed, {self.state}" if self.error and self.state in (UNDOING, UNDONE) else self.state

    def duration_s(self, at: datetime.datetime | None = None) -> float | None:
        """Return the seconds it took; for a step under way, those until *at*."""
        end = self.finished_at or at
        if self.started_at is None or end is None:
            return None
        return max((end - self.started_at).total_seconds(), 0.0)

    def label(self, at: datetime.datetime | None = None) -> str:
        """Return the state in words, with the time it took."""
        spent = self.duration_s(at)
        return self.words if spent is None else f"{self.words} {spent:.1f} s"


@dataclass(frozen=True)
class Drawing:
    """What is drawn."""

    steps: Sequence[Step]
    title: str = ""
    source: str = "source"
    dest: str = "destination"
    marks: Sequence[Mark] = field(default_factory=list)
    at: datetime.datetime | None = None
    width: int | None = None  #: columns of the terminal, for text alone; None: lines are as long as they are

    @property
    def live(self) -> bool:
        """Whether it shows states."""
        return bool(self.marks)

    def host(self, step: Step) -> str:
        """Return the name of the host whose step it is."""
        return self.source if step.where == SOURCE else self.dest

    def mark(self, index: int) -> Mark:
        """Return the mark of the step at *index*, which starts at 0."""
        return self.marks[index] if index < len(self.marks) else Mark()

    @property
    def turning(self) -> int | None:
        """Index of the step after which nothing is undone; None if there is none."""
        return next((index for index, step in enumerate(self.steps) if step.point_of_no_return), None)

    def undo(self, index: int) -> str:
        """Return what undoes the step, in words."""
        turning = self.turning
        if turning is not None and index > turning:
            return "not undone: past the point of no return"
        return self.steps[index].undo or "nothing"


def draw(
    steps: Sequence[Step],
    fmt: str,
    *,
    title: str = "",
    source: str = "source",
    dest: str = "destination",
    marks: Sequence[Mark] = (),
    at: datetime.datetime | None = None,
    width: int | None = None,
) -> str:
    """Return the drawing of *steps* in one of :data:`FORMATS`.

    *source*, *dest*: the names of the hosts. *marks*: one for each step, or none at all. *at*: the time up
    to which steps under way are counted. *width*: the columns that a text has.
    """
    return _WRITERS[fmt](Drawing(steps, title, source, dest, marks, at, width))


def visible(text: str) -> str:
    """Return *text* without control characters: they are not allowed in XML, and act on terminals."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def prose(text: str) -> str:
    """Return a docstring's sentence without its markup."""
    return _MARKUP.sub(lambda found: found[1] or found[2], visible(" ".join(text.split())))


def symbols(step: Step) -> str:
    """Return what a step needs of those before it and what it gives to those behind it, in words."""
    parts = [("needs", step.requires), ("gives", step.provides)]
    return "; ".join(f"{verb} {', '.join(names)}" for verb, names in parts if names)


def is_nothing(undo: str) -> bool:
    """Tell whether an undo leaves everything as it is."""
    return not undo or undo.lower().startswith(("nothing", "not undone"))


def _json(drawing: Drawing) -> str:
    steps = []
    for index, step in enumerate(drawing.steps):
        entry = (
            {"number": index + 1, "host": drawing.host(step)} | step.to_dict() | {"undo": drawing.undo(index)}
        )
        if drawing.live:
            mark = drawing.mark(index)
            entry |= {"state": mark.state, "direction": "revert" if mark.backward else "execute"}
            entry |= {
                "seconds": mark.duration_s(drawing.at),
                "error": mark.error,
                "undo_error": mark.undo_error,
            }
        steps.append(entry)
    head = {"title": drawing.title, "source": drawing.source, "dest": drawing.dest}
    return json.dumps(head | {"steps": steps}, indent=2) + "\n"


def _summary(drawing: Drawing, index: int) -> list[str]:
    step, mark = drawing.steps[index], drawing.mark(index)
    lines = [f"{index + 1} {step.name}"]
    if drawing.live:
        lines[0] += f" - {mark.label(drawing.at)}"
    lines += [text for text in (symbols(step), mark.undo_error or mark.error) if text]
    lines.append(f"undo: {drawing.undo(index)}")
    return [prose(line) for line in lines]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _dot_label(lines: Sequence[str]) -> str:
    return '"' + "\\l".join(_quoted(line)[1:-1] for line in lines) + '\\l"'


def _dot_node(drawing: Drawing, index: int) -> str:
    fill, border = COLOURS[drawing.mark(index).state]
    label = _dot_label(_summary(drawing, index))
    return f'    s{index + 1} [label={label}, fillcolor="{fill}", color="{border}"];'


def _dot(drawing: Drawing) -> str:
    lines = ["digraph flow {", f"  label={_quoted(visible(drawing.title))}; labelloc=t;"]
    lines += ['  node [shape=box, style="filled,rounded", fontname="sans-serif", fontsize=10];']
    for where, name in ((SOURCE, drawing.source), (DEST, drawing.dest)):
        lines += [f"  subgraph cluster_{where} {{", f"    label={_quoted(visible(name))};"]
        lines += [
            _dot_node(drawing, index) for index, step in enumerate(drawing.steps) if step.where == where
        ]
        lines.append("  }")
    for index in range(1, len(drawing.steps)):
        before, after = drawing.steps[index - 1], drawing.steps[index]
        words = [] if before.where == after.where else ["baton"]
        words += ["point of no return"] if before.point_of_no_return else []
        label = f" [label={_quoted(', '.join(words))}, penwidth=2]" if words else ""
        lines.append(f"  s{index} -> s{index + 1}{label};")
    return "\n".join([*lines, "}", ""])


def _mermaid_text(lines: Sequence[str]) -> str:
    # every character that Mermaid or the page around it might act upon, as its number
    escaped = [
        "".join(char if char.isalnum() or char in " .,:-_/" else f"#{ord(char)};" for char in line)
        for line in lines
    ]
    return '"' + "<br/>".join(escaped) + '"'


def _mermaid(drawing: Drawing) -> str:
    lines = ["flowchart TD"]
    for where, name in ((SOURCE, drawing.source), (DEST, drawing.dest)):
        lines.append(f"  subgraph {where}[{_mermaid_text([visible(name)])}]")
        for index, step in enumerate(drawing.steps):
            if step.where == where:
                lines.append(f"    s{index + 1}[{_mermaid_text(_summary(drawing, index))}]")
        lines.append("  end")
    for index in range(1, len(drawing.steps)):
        before, after = drawing.steps[index - 1], drawing.steps[index]
        arrow = "-->" if before.where == after.where else "==>|baton|"
        lines.append(
            f"  s{index} {'-.->|point of no return|' if before.point_of_no_return else arrow} s{index + 1}"
        )
    for index in range(len(drawing.steps)):
        fill, border = COLOURS[drawing.mark(index).state]
        lines.append(f"  style s{index + 1} fill:{fill},stroke:{border},color:#111827")
    return "\n".join([*lines, ""])


def _svg(drawing: Drawing) -> str:
    from hostler.flows.graph_svg import render

    return render(drawing)


def _text(drawing: Drawing) -> str:
    from hostler.flows.graph_text import render

    return render(drawing)


_WRITERS: dict[str, Callable[[Drawing], str]] = {
    "svg": _svg,
    "dot": _dot,
    "mermaid": _mermaid,
    "json": _json,
    "text": _text,
}
FORMATS = tuple(_WRITERS)
