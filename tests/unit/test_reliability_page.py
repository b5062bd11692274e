"""The manual says which test shows that hostler lacks a fault: the test must exist, and no fault may be left out."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/reliability.rst").read_text()
#: The faults of Nova's rollback; three numbers stand for two each.
HOLES = [
    f"H{number}{more}" for number in range(1, 37) for more in ("", "b") if not more or number in (9, 12, 17)
]


def rows(heading: str) -> dict[str, set[str]]:
    """Return the tests that each row of the table below *heading* names."""
    _, _, below = PAGE.partition(f"\n{heading}\n---")
    table = re.split(r"\n[^\n]+\n---", below)[0]
    found = re.split(r"\n   \* - ", table)[2:]
    return {row.split("\n")[0]: set(re.findall(r"``(test_\w+)``", row)) for row in found}


def test_every_hole_and_every_scenario_has_its_row_and_every_row_its_tests() -> None:
    holes, scenarios = rows("Nova's holes"), rows("Thirty-five ways to go wrong")
    assert list(holes) == HOLES
    assert list(scenarios) == [str(number) for number in range(1, 36)]
    assert [row for row, tests in {**holes, **scenarios}.items() if not tests] == []


def test_every_test_that_the_page_names_is_there() -> None:
    defined = {
        name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    named = set(re.findall(r"``(test_\w+)``", PAGE))
    assert named - defined == set()
