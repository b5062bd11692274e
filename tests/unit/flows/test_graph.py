"""Drawings of flows."""

from __future__ import annotations

import datetime
import itertools
import json
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest

from hostler.flows.graph import (
    DONE,
    FAILED,
    FORMATS,
    PENDING,
    RUNNING,
    STATES,
    UNDO_FAILED,
    UNDOING,
    UNDONE,
    Mark,
    draw,
)
from hostler.flows.shape import DEST, SOURCE, Step

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"]; } <script>alert(1)</script> & \x1b[31m \\ \u202e ]]> #quot; `x` \n%%'
T0 = datetime.datetime.fromisoformat("2026-03-01T12:00:00")

STEPS = [
    Step("Inspect", SOURCE, "Read the domain.", "nothing; it only reads."),
    Step("Claim", DEST, "Claim memory.", "dropping the claim."),
    Step("PowerOff", SOURCE, "Shut the guest down.", "starting the guest again, if it was running."),
    Step("Copy", SOURCE, "Send the images.", "stopping the bytes."),
    Step(
        "HandOver", DEST, "Give the server away.", "nothing; from here forward only.", point_of_no_return=True
    ),
    Step("Start", DEST, "Let the guest run.", "nothing; only revert_resize leads back."),
]
FAILED_COPY = [
    Mark(DONE, T0, T0 + datetime.timedelta(seconds=1)),
    Mark(DONE, T0, T0 + datetime.timedelta(seconds=2)),
    Mark(UNDOING, T0),
    Mark(UNDONE, T0, T0 + datetime.timedelta(seconds=0.5), error="disk full " * 99),
    Mark(),
    Mark(),
]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_flow_is_drawn_in_order_with_the_undo_beside_the_act() -> None:
    shown = texts(draw(STEPS, "svg", title="cold_migration"))
    names = [text for text in shown if re.match(r"\d+  ", text)]
    assert names == [f"{number}  {step.name}" for number, step in enumerate(STEPS, 1)]
    for step in STEPS[:-1]:
        host = "source" if step.where == SOURCE else "destination"
        where = "" if step.undo.startswith("nothing") else f" on {host}"
        assert f"undo{where}: {step.undo}" in shown
    assert "undo: not undone: past the point of no return" in shown
    assert "point of no return: once HandOver is done, nothing above is undone" in shown


def test_each_host_has_a_lane_and_each_change_of_lane_a_baton() -> None:
    svg = draw(STEPS, "svg", source="kvm1", dest="kvm2")
    root = ElementTree.fromstring(svg)
    boxes = [element for element in root.iter(f"{SVG}rect") if "hf-box" in element.get("class", "")]
    lanes = sorted({float(box.get("x", "0")) for box in boxes})
    assert [lanes.index(float(box.get("x", "0"))) for box in boxes] == [0, 1, 0, 0, 1, 1]
    batons = [element for element in root.iter(f"{SVG}path") if element.get("class") == "hf-baton"]
    assert len(batons) == 3
    assert "the baton passes to kvm2" in texts(svg)


def test_boxes_do_not_overlap_whatever_the_text() -> None:
    steps = [
        Step("N" * 30, SOURCE if index % 3 else DEST, "word " * 99, "undoing " * 99) for index in range(9)
    ]
    root = ElementTree.fromstring(draw(steps, "svg"))
    boxes = [element for element in root.iter(f"{SVG}rect") if "hf-box" in element.get("class", "")]
    ends = [
        (float(box.get("y", "0")), float(box.get("y", "0")) + float(box.get("height", "0"))) for box in boxes
    ]
    assert all(below[0] > above[1] for above, below in itertools.pairwise(ends))


def test_a_live_drawing_says_states_times_and_the_error_in_words() -> None:
    at = T0 + datetime.timedelta(seconds=7)
    svg = draw(STEPS, "svg", title="web1", marks=FAILED_COPY, at=at)
    shown = texts(svg)
    assert "done 1.0 s" in shown
    assert "undoing 7.0 s" in shown
    assert "failed, undone 0.5 s" in shown
    assert "step 4 failed: undo, upwards" in shown
    assert set(STATES) <= set(shown)
    long = [text for text in shown if text.startswith("disk full")]
    assert all(len(text) < 80 for text in long)
    titles = [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert any(text and "disk full " * 99 in text for text in titles)


def test_a_drawing_follows_the_readers_colour_scheme() -> None:
    assert "prefers-color-scheme: dark" in draw(STEPS, "svg")


@pytest.mark.parametrize("fmt", FORMATS)
def test_hostile_text_stays_text(fmt: str) -> None:
    steps = [Step(HOSTILE, SOURCE, HOSTILE, HOSTILE), Step("b", DEST)]
    drawing = draw(
        steps, fmt, title=HOSTILE, source=HOSTILE, dest=HOSTILE, marks=[Mark(FAILED, error=HOSTILE)]
    )
    assert "\x1b" not in drawing
    assert "\u202e" not in drawing
    if fmt == "svg":
        assert not list(ElementTree.fromstring(drawing).iter(f"{SVG}script"))
    if fmt == "mermaid":
        assert "<script" not in drawing
        assert not re.search(r'\["[^"]*"[^\]]', drawing)
    if fmt == "json":
        assert json.loads(drawing)["steps"][0]["name"] == HOSTILE


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_accepts_the_dot_drawing() -> None:
    steps = [Step(HOSTILE, SOURCE, HOSTILE, HOSTILE), *STEPS]
    drawn = subprocess.run(
        ["dot", "-Tplain"],
        input=draw(steps, "dot", title=HOSTILE),
        text=True,
        capture_output=True,
        check=True,
    )
    assert drawn.stdout.count("\nnode ") == len(steps)


def test_dot_and_mermaid_name_hosts_batons_and_the_point_of_no_return() -> None:
    for fmt in ("dot", "mermaid"):
        drawing = draw(STEPS, fmt, source="kvm1", dest="kvm2")
        assert "kvm1" in drawing
        assert "kvm2" in drawing
        assert drawing.count("baton") == 3
        assert drawing.count("point of no return") >= 1


def test_json_has_everything_that_the_picture_has() -> None:
    drawing = json.loads(draw(STEPS, "json", source="kvm1", dest="kvm2", marks=FAILED_COPY))
    copy = drawing["steps"][3]
    assert (copy["number"], copy["host"], copy["undo"]) == (4, "kvm1", "stopping the bytes.")
    assert (copy["state"], copy["direction"], copy["seconds"]) == (UNDONE, "revert", 0.5)
    assert drawing["steps"][5]["undo"] == "not undone: past the point of no return"
    assert "state" not in json.loads(draw(STEPS, "json"))["steps"][0]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_short_flow_is_drawn_too(fmt: str, count: int) -> None:
    assert draw(STEPS[:count], fmt)


def test_a_mark_knows_its_direction_and_its_time() -> None:
    assert [Mark(state).backward for state in (PENDING, RUNNING, FAILED, UNDOING, UNDO_FAILED)] == [
        False, False, False, True, True,
    ]  # fmt: skip
    assert Mark(RUNNING, T0).duration_s() is None
    assert Mark(DONE, T0, T0 - datetime.timedelta(seconds=9)).duration_s() == 0.0


@pytest.mark.parametrize("fmt", FORMATS)
def test_two_hundred_steps_are_drawn_with_what_each_needs_and_gives(fmt: str) -> None:
    steps = [
        Step(f"S{number}", SOURCE, "Do.", "undoing.", requires=[f"in{number}"], provides=[f"out{number}"])
        for number in range(200)
    ]
    drawing = draw(steps, fmt, marks=[Mark(FAILED, error="x" * (1 << 20))])
    assert all(f"in{number}" in drawing and f"out{number}" in drawing for number in (0, 199))


@pytest.mark.parametrize("width", [1, 40, 80])
def test_a_text_of_200_steps_fits_its_terminal(width: int) -> None:
    steps = [
        Step(f"Step{n}", (SOURCE, DEST)[n % 3 == 0], undo=HOSTILE * 3, requires=["one"]) for n in range(200)
    ]
    marks = [Mark(FAILED, T0, T0 + datetime.timedelta(seconds=n), error=HOSTILE) for n in range(200)]
    drawn = draw(
        steps, "text", title="cold_migration of web1", source="kvm1", dest="kvm2", marks=marks, width=width
    )
    lines = drawn.splitlines()
    assert max(map(len, lines)) <= max(width, len("* | 200 ") + 40)
    assert all(line.isprintable() for line in lines)
    knots = [line for line in lines if "*" in line[:3]]
    assert [line.index("*") for line in knots] == [2 if n % 3 == 0 else 0 for n in range(200)]
    assert {line[4:8] for line in knots} == {f"{n:>3} " for n in range(1, 201)}


def test_a_text_says_where_nothing_goes_back_and_what_failed() -> None:
    drawn = draw(
        STEPS, "text", source="kvm1", dest="kvm2", marks=[*FAILED_COPY[:3], Mark(FAILED, error="full")]
    )
    assert drawn.startswith("kvm1\n| kvm2\n* | 1 Inspect: done 1.0 s\n| |   undo: nothing; it only reads.\n")
    assert (
        "* | 4 Copy: failed\n| |   full\n| |   undo: stopping the bytes.\n| * 5 HandOver: pending\n" in drawn
    )
    assert (
        "| | -- point of no return: once HandOver is done, nothing above is undone --\n| * 6 Start" in drawn
    )
