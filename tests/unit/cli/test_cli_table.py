"""Tables on a terminal that is too narrow for them."""

from __future__ import annotations

import argparse
import io
import re

import pytest

from hostler.cli.cells import Files, Lines, Steps
from hostler.cli.table import Fitting, room

NAMES = ("UUID", "Server", "Try")
ROWS = [
    ("abcd0000-2222-4333-8444-555555555555", "web1", "hostler migration retry abcd0000-2222-4333-8444-555555555555"),
    ("abcd0000-1222-4333-8444-555555555555", "web2", ""),
]  # fmt: skip
ASKED = argparse.Namespace(print_empty=False, max_width=0, fit_width=False)


def printed(width: int, *left_out: tuple[str, ...]) -> str:
    out = io.StringIO()
    Fitting(width, *left_out, typed=("Try",)).emit_list(NAMES, ROWS, out, ASKED)
    return out.getvalue()


def test_what_fits_is_a_table_as_it_is() -> None:
    assert [line.count("|") for line in printed(112, ("UUID",), NAMES).splitlines()] == [0, 4, 0, 4, 4, 0]
    assert ROWS[0][0] in printed(112, ("UUID",), NAMES)


def test_as_much_of_a_uuid_is_left_as_tells_it_from_the_others() -> None:
    assert "| abcd0000-2 | web1 " in printed(86, ("UUID",))
    assert "| abcd0000-1 | web2 " in printed(86, ("UUID",))


def test_columns_are_left_out_in_order() -> None:
    table = printed(30, ("UUID",), ("Try", "Server"))
    assert max(map(len, table.splitlines())) <= 30
    assert "| abcd0000-2 | web1   |" in table


def test_else_each_row_is_a_block_whose_cells_can_be_pasted() -> None:
    assert printed(40) == (
        f"UUID\n  {ROWS[0][0]}\nServer  web1\nTry     {ROWS[0][2]}\n\nUUID\n  {ROWS[1][0]}\nServer  web2\n"
    )


@pytest.mark.parametrize("width", [0, 1, 10])
def test_a_terminal_of_hardly_any_width_gets_blocks(width: int) -> None:
    assert printed(width, ("UUID",), NAMES[1:]).startswith("UUID\n  abcd0000-2222")


@pytest.mark.parametrize("width", [4, 80])
def test_a_list_of_nothing_is_an_empty_line_as_elsewhere(width: int) -> None:
    out = io.StringIO()
    Fitting(width, ("UUID",), NAMES[1:]).emit_list(NAMES, [], out, ASKED)
    assert out.getvalue() == "\n"


def test_a_narrow_terminal_shows_one_thing_without_a_frame() -> None:
    out = io.StringIO()
    steps = Lines([{"number": 1, "name": "PowerOff"}, {"number": 2, "name": "HandOver"}])
    Fitting(40, typed=("hint",)).emit_one(("hint", "error", "steps"), (ROWS[0][2], "", steps), out, ASKED)
    assert out.getvalue() == f"hint   {ROWS[0][2]}\nsteps  1  PowerOff\n       2  HandOver\n"


SENTENCE = "the part directory /var/lib/libvirt/instances/a-b.part is left over"


def test_a_sentence_is_broken_between_words() -> None:
    out = io.StringIO()
    Fitting(40).emit_list(("Host", "Finding"), [("kvm2", SENTENCE)], out, ASKED)
    assert out.getvalue() == (
        "Host     kvm2\nFinding\n  the part directory\n  /var/lib/libvirt/instances/a-b.part is\n  left over\n"
    )


QUANTITIES = "kvm2 has not enough disk: 40 GiB needed, 3 GiB free; it took 2.1 s and 512 MiB/s for 16 vCPUs of it, 45 s"
BROKEN = re.compile(r"\d[ |]*\n[| ]*(?:GiB|MiB|s|vCPUs)\b")


@pytest.mark.parametrize("width", range(30, 130))
def test_no_line_is_broken_between_a_number_and_its_unit(width: int) -> None:
    out = io.StringIO()
    step = {
        "number": 1,
        "host": "kvm1",
        "name": "CopyImages",
        "state": "failed",
        "seconds": 3,
        "error": QUANTITIES,
    }
    asked = argparse.Namespace(print_empty=False, max_width=width, fit_width=False)
    Fitting(width).emit_one(("error", "steps"), (QUANTITIES, Steps([step])), out, asked)
    Fitting(width).emit_list(("Host", "Finding"), [("kvm2", QUANTITIES), ("kvm3", "")], out, asked)
    lines = "".join(out.getvalue())
    assert not BROKEN.search(lines)
    assert lines.count("16 vCPUs") == 3


def test_a_command_that_its_frame_would_break_has_none() -> None:
    long = "on kvm2: ls -ld /var/lib/libvirt/images/web1.qcow2; then: hostler server migrate --to kvm2 web1"
    for width, framed in ((100, False), (120, True)):
        out = io.StringIO()
        Fitting(width, typed=("hint",)).emit_one(("uuid", "hint"), ("abcd", long), out, ASKED)
        assert out.getvalue().startswith("+-") is framed
        assert long in out.getvalue()


def test_steps_and_files_have_units_and_errors_beneath() -> None:
    step = {
        "number": 1,
        "host": "kvm1",
        "name": "PowerOff",
        "state": "failed",
        "seconds": 61.04,
        "error": "no",
    }
    steps = Steps([step, step | {"number": 12, "seconds": None, "error": None}])
    assert steps.human_readable() == " 1  kvm1  PowerOff  failed  1:01\n    no\n12  kvm1  PowerOff  failed"
    file = {"path": "/i/web1.qcow2", "done_bytes": 1 << 29, "total_bytes": 4 << 30}
    assert Files([file]).human_readable() == "/i/web1.qcow2  0.5 of 4.0 GiB"


def test_no_terminal_has_no_width() -> None:
    assert room(io.StringIO()) is None
