"""The drawing of a flow as SVG: a lane for each host, time running down.

Beside each box stands what undoes it, in the lane of the host that rests. Written by hand rather than by
Graphviz, so that a lane stays a lane, and nothing has to be installed.
"""

from __future__ import annotations

import textwrap
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from hostler.flows.graph import COLOURS, FAILED, PENDING, STATES, Drawing, is_nothing, prose, symbols, visible
from hostler.flows.shape import SOURCE

_MARGIN = 20
_RAIL = 60  #: the column at the left in which the way back is drawn
_LANE = 420
_GUTTER = 28
_WIDTH = _MARGIN + _RAIL + 2 * _LANE + _GUTTER + _MARGIN
_LINE = 15  #: from one line of small text to the next
_STEP_GAP = 16
_BATON_GAP = 34
_TURN_GAP = 62
_CHARS = 62  #: of small text that fit into a lane, whatever the font
_LINES = 4  #: of small text at most; the rest shows where the mouse rests
_DARK = {
    "pending": ("#1f2937", "#6b7280"),
    "running": ("#172554", "#60a5fa"),
    "done": ("#052e16", "#4ade80"),
    "failed": ("#450a0a", "#f87171"),
    "undoing": ("#451a03", "#fbbf24"),
    "undone": ("#3b0764", "#c084fc"),
    "undo failed": ("#7f1d1d", "#fca5a5"),
}


def render(drawing: Drawing) -> str:
    """Return the SVG document."""
    return _Page(drawing).document()


class _Page:
    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.root = Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
        self.root.set("font-family", "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', Arial, sans-serif")
        self.y = 0
        self.tops: list[int] = []
        self.bottoms: list[int] = []

    def document(self) -> str:
        SubElement(self.root, "title").text = visible(self.drawing.title) or "flow"
        SubElement(self.root, "style").text = _style()
        SubElement(self.root, "rect", {"class": "hf-page", "width": "100%", "height": "100%"})
        _arrowheads(self.root)
        lanes = SubElement(self.root, "g")
        self._head()
        top = self.y
        for index in range(len(self.drawing.steps)):
            self._gap(index)
            self._step(index)
        for x, name in ((_lane_x(True), "source"), (_lane_x(False), "dest")):
            size = {"x": x - 8, "y": top - 34, "width": _LANE + 16, "height": self.y - top + 46}
            _shape(lanes, "rect", f"hf-lane hf-{name}", rx=10, **size)
        self._rail(top)
        self._legend()
        height = str(self.y + _MARGIN)
        self.root.set("viewBox", f"0 0 {_WIDTH} {height}")
        self.root.set("width", str(_WIDTH))
        self.root.set("height", height)
        indent(self.root)
        return tostring(self.root, encoding="unicode") + "\n"

    def _head(self) -> None:
        _text(self.root, "hf-title", _MARGIN, 32, self.drawing.title)
        rule = (
            "If a step fails, that step and every finished step above it are undone: the lowest first,"
            " each on the host where it ran."
        )
        _text(self.root, "hf-small", _MARGIN, 52, rule)
        for source, role, name in ((True, "source", self.drawing.source), (False, "dest", self.drawing.dest)):
            words = name if name in (role, "destination") else f"{role}: {name}"
            _text(self.root, "hf-host", _lane_x(source), 86, words)
        self.y = 100

    def _gap(self, index: int) -> None:
        if index == 0:
            return
        before, after = self.drawing.steps[index - 1], self.drawing.steps[index]
        start = self.bottoms[-1]
        same = before.where == after.where
        turn = self.drawing.turning == index - 1
        self.y += _TURN_GAP if turn else _STEP_GAP if same else _BATON_GAP
        x_from, x_to = (_lane_x(step.where == SOURCE) + _LANE // 2 for step in (before, after))
        if same:
            _shape(self.root, "path", "hf-edge", d=f"M{x_from} {start} V{self.y}")
        else:
            middle = self.y - _BATON_GAP // 2
            _shape(self.root, "path", "hf-baton", d=f"M{x_from} {start} V{middle} H{x_to} V{self.y}")
            words = f"the baton passes to {self.drawing.host(after)}"
            _text(self.root, "hf-small", (x_from + x_to) // 2, middle - 4, words, anchor="middle")
        if turn:
            self._turning_line(start + _TURN_GAP // 2 - 2, index - 1)

    def _turning_line(self, y: int, index: int) -> None:
        _shape(self.root, "path", "hf-turn", d=f"M{_MARGIN} {y} H{_WIDTH - _MARGIN}")
        words = f"point of no return: once {self.drawing.steps[index].name} is done, nothing above is undone"
        if self.drawing.steps[index].where == SOURCE:  # the arrow runs down the other lane
            _text(self.root, "hf-turn-text", _WIDTH - _MARGIN - 8, y - 6, words, anchor="end")
        else:
            _text(self.root, "hf-turn-text", _lane_x(True), y - 6, words)

    def _step(self, index: int) -> None:
        step, mark = self.drawing.steps[index], self.drawing.mark(index)
        source = step.where == SOURCE
        does = [*_wrapped(prose(step.does)), *_wrapped(symbols(step))]
        errors = _wrapped(mark.undo_error or mark.error or "")
        undo = _wrapped(self._undo_words(index))
        height = max(
            30 + _LINE * (len(does) + len(errors)) + 6 * bool(does or errors), 12 + _LINE * len(undo)
        )
        x, y = _lane_x(source), self.y
        group = SubElement(self.root, "g")
        _tooltip(group, [step.does, mark.error, mark.undo_error])
        self._box(group, index, x, height)
        for number, line in enumerate(does + errors):
            ink = "hf-small" if number < len(does) else f"hf-small hf-ink-{FAILED}"
            _text(group, ink, x + 12, y + 37 + number * _LINE, line)
        self._undo(index, undo, y + height // 2)
        self.tops.append(y)
        self.bottoms.append(y + height)
        self.y = y + height

    def _undo_words(self, index: int) -> str:
        """Return the undo with the host on which it is done: it stands in the other one's lane."""
        words = self.drawing.undo(index)
        where = "" if is_nothing(words) else f" on {self.drawing.host(self.drawing.steps[index])}"
        return f"undo{where}: {prose(words)}"

    def _box(self, group: Element, index: int, x: int, height: int) -> None:
        step, mark, y = self.drawing.steps[index], self.drawing.mark(index), self.y
        kind = f"hf-box hf-{_slug(mark.state)}" + (" hf-cause" if mark.error else "")
        _shape(group, "rect", kind, x=x, y=y, width=_LANE, height=height, rx=6)
        _text(group, "hf-name", x + 12, y + 20, f"{index + 1}  {step.name}")
        if self.drawing.live and mark.state != PENDING:
            _text(
                group,
                f"hf-state hf-ink-{_slug(mark.state)}",
                x + _LANE - 12,
                y + 20,
                mark.label(self.drawing.at),
                "end",
            )

    def _undo(self, index: int, lines: list[str], middle: int) -> None:
        source = self.drawing.steps[index].where == SOURCE
        words = self.drawing.undo(index)
        kind = "hf-nothing" if is_nothing(words) else "hf-undo"
        group = SubElement(self.root, "g")
        _tooltip(group, [words])
        box, other = _lane_x(source), _lane_x(not source)
        near, far = (box + _LANE, other) if source else (box, other + _LANE)
        if kind == "hf-undo":
            _shape(group, "path", "hf-undo-line", d=f"M{near} {middle} H{far + (6 if source else -6)}")
        x = other + 12 if source else other + _LANE - 12
        top = middle - (len(lines) - 1) * _LINE // 2 + 4
        for number, line in enumerate(lines):
            _text(group, kind, x, top + number * _LINE, line, "start" if source else "end")

    def _rail(self, top: int) -> None:
        """Draw the way back at the left: from the step that failed, or else from the last that may."""
        if not self.drawing.steps:
            return
        turning = self.drawing.turning
        last = len(self.drawing.steps) - 1 if turning is None else turning
        failed = [index for index in range(len(self.drawing.steps)) if self.drawing.mark(index).error]
        words, kind = "if a step fails: undo, upwards", "hf-rail"
        if failed and (turning is None or failed[-1] <= turning):
            last, kind = failed[-1], "hf-rail hf-rail-live"
            words = f"step {last + 1} failed: undo, upwards"
        bottom = (self.tops[last] + self.bottoms[last]) // 2
        x = _MARGIN + 14
        _shape(self.root, "path", kind, d=f"M{x + 14} {bottom} H{x} V{top}")
        self._sideways(x + 20, max(bottom - 20, top), words)
        if turning is not None and turning < len(self.drawing.steps) - 1:
            start = self.bottoms[turning] + _TURN_GAP // 2 + 4
            _shape(self.root, "path", "hf-rail", d=f"M{x} {start} V{self.bottoms[-1]}")
            self._sideways(x + 20, self.bottoms[-1] - 4, "forward only")

    def _sideways(self, x: int, y: int, words: str) -> None:
        text = _text(self.root, "hf-small", x, y, words)
        text.set("transform", f"rotate(-90 {x} {y})")

    def _legend(self) -> None:
        self.y += 40
        if not self.drawing.live:
            return
        x = _lane_x(True)
        for state in STATES:
            _shape(
                self.root, "rect", f"hf-box hf-{_slug(state)}", x=x, y=self.y - 12, width=18, height=14, rx=3
            )
            _text(self.root, "hf-small", x + 24, self.y, state)
            x += 48 + 8 * len(state)
        self.y += 6


def _lane_x(source: bool) -> int:
    return _MARGIN + _RAIL + (0 if source else _LANE + _GUTTER)


def _wrapped(text: str) -> list[str]:
    plain = visible(" ".join(text.split()))
    return textwrap.wrap(plain, _CHARS, max_lines=_LINES, placeholder=" ...") if plain else []


def _slug(state: str) -> str:
    return state.replace(" ", "-")


def _shape(parent: Element, tag: str, kind: str, **attributes: str | int) -> Element:
    return SubElement(parent, tag, {"class": kind} | {key: str(value) for key, value in attributes.items()})


def _text(parent: Element, kind: str, x: int, y: int, words: str, anchor: str = "start") -> Element:
    element = _shape(parent, "text", kind, x=x, y=y)
    if anchor != "start":
        element.set("text-anchor", anchor)
    element.text = visible(words)
    return element


def _tooltip(parent: Element, texts: list[str | None]) -> None:
    words = [visible(text) for text in texts if text]
    if words:
        SubElement(parent, "title").text = "\n".join(words)


def _arrowheads(root: Element) -> None:
    defs = SubElement(root, "defs")
    for name in ("edge", "baton", "rail", "rail-live"):
        marker = SubElement(defs, "marker", id=f"hf-{name}-head", viewBox="0 0 10 10", refX="9", refY="5")
        for key, value in (("markerWidth", "7"), ("markerHeight", "7"), ("orient", "auto-start-reverse")):
            marker.set(key, value)
        _shape(marker, "path", f"hf-head-{name}", d="M0 1 L10 5 L0 9 z")


def _style() -> str:
    light = _theme(
        COLOURS,
        page="#ffffff",
        ink="#111827",
        soft="#4b5563",
        faint="#9ca3af",
        lane="#f8fafc",
        line="#e2e8f0",
    )
    dark = _theme(
        _DARK, page="#0d1117", ink="#f3f4f6", soft="#c9d1d9", faint="#8b949e", lane="#161b22", line="#30363d"
    )
    return f"{_FIXED}{light}\n@media (prefers-color-scheme: dark) {{{dark}}}\n"


_FIXED = """
.hf-title{font-size:18px;font-weight:bold}.hf-host{font-size:15px;font-weight:bold}
.hf-name{font-size:13px;font-weight:bold}.hf-state{font-size:12px;font-weight:bold}
.hf-small,.hf-undo,.hf-nothing,.hf-turn-text{font-size:11px}.hf-undo,.hf-nothing{font-style:italic}
.hf-turn-text{font-weight:bold}
.hf-box{stroke-width:1.5}.hf-undone{stroke-dasharray:5 3}
.hf-running,.hf-undoing,.hf-undo-failed{stroke-width:3}
.hf-edge,.hf-baton,.hf-rail,.hf-undo-line,.hf-turn{fill:none}
.hf-edge{stroke-width:1.5;marker-end:url(#hf-edge-head)}.hf-baton{stroke-width:2.5;marker-end:url(#hf-baton-head)}
.hf-rail{stroke-width:2;marker-end:url(#hf-rail-head)}.hf-rail-live{stroke-width:3;marker-end:url(#hf-rail-live-head)}
.hf-turn{stroke-width:2;stroke-dasharray:10 5}.hf-undo-line{stroke-width:1;stroke-dasharray:2 3}
"""


def _theme(
    colours: dict[str, tuple[str, str]], *, page: str, ink: str, soft: str, faint: str, lane: str, line: str
) -> str:
    undo, failed = colours["undone"][1], colours["failed"][1]
    baton = colours["running"][1]
    rules = [
        f".hf-page{{fill:{page}}}.hf-lane{{fill:{lane};stroke:{line}}}",
        f".hf-title,.hf-host,.hf-name,.hf-state{{fill:{ink}}}.hf-small{{fill:{soft}}}",
        f".hf-undo{{fill:{undo}}}.hf-nothing{{fill:{faint}}}.hf-undo-line{{stroke:{undo}}}",
        f".hf-edge{{stroke:{soft}}}.hf-head-edge{{fill:{soft}}}.hf-baton{{stroke:{baton}}}.hf-head-baton{{fill:{baton}}}",
        f".hf-rail{{stroke:{undo}}}.hf-head-rail{{fill:{undo}}}.hf-rail-live{{stroke:{failed}}}",
        f".hf-box.hf-cause{{stroke:{failed};stroke-width:3}}",
        f".hf-head-rail-live{{fill:{failed}}}.hf-turn{{stroke:{failed}}}.hf-turn-text{{fill:{failed}}}",
    ]
    for state, (fill, border) in colours.items():
        slug = _slug(state)
        rules.append(f".hf-{slug}{{fill:{fill};stroke:{border}}}.hf-ink-{slug}{{fill:{border}}}")
    return "\n".join(["", *rules])
