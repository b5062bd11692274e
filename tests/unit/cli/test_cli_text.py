"""Names, sizes and times."""

from __future__ import annotations

import shlex
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.views.text import apart, command, duration, printable, size, size_of, together


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs") for char in shown)


@given(st.text())
def test_a_text_that_was_kept_together_is_as_it_was(text: str) -> None:
    shown = printable(text)
    assert apart(together(shown)) == shown
    assert together("2.1 s of 5 GiB, 3 servers") == "2.1\uf8ffs of 5\uf8ffGiB, 3 servers"


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_a_command_means_the_same_after_the_shell(name: str) -> None:
    words = shlex.split(command("server", "confirm", name, fallback="uuid"))
    assert words[:3] == ["hostler", "server", "confirm"]
    assert words[-1] == (name if name.isprintable() else "uuid")
    assert ("--" in words[3:-1]) == words[-1].startswith("-")


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (512 << 20, "512 MiB"),
        (5 << 40, "5.0 TiB"),
        (1 << 70, "1048576 PiB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    assert size(count) == words


def test_a_part_is_counted_in_the_units_of_the_whole() -> None:
    assert size_of(1 << 29, 4 << 30) == "0.5 of 4.0 GiB"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0.0 s"), (2.14, "2.1 s"), (45.6, "46 s"), (59.7, "1:00"), (185, "3:05"), (7385, "2:03:05")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
