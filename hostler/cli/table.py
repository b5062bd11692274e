"""Tables for a terminal: no wider than it is, and nothing in them is broken that somebody wants to paste."""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from cliff.columns import FormattableColumn
from cliff.formatters.table import TableFormatter
from rich.cells import cell_len

from hostler.views.text import apart, together

#: Columns below which the frame of a shown thing would break the command that it names.
_ROOM_FOR_A_COMMAND = 80
_SHORT = 8  #: characters of a UUID that are enough, mostly
#: Columns for the words beside a label; where there are fewer, they go on beneath it.
_ROOM_FOR_WORDS = 24
_BENEATH = "  "  #: what it has for an indent there


def room(out: TextIO) -> int | None:
    """Return the columns of the terminal that *out* is; None where it is none."""
    return shutil.get_terminal_size().columns if out.isatty() else None


class Fitting(TableFormatter):
    """What does not fit is left out in an order of the command's, and if that is not enough, each row is a block.

    cliff would break the cells instead, UUIDs and commands too.

    *typed*: columns whose cells are commands. *brief*: columns of which the beginning is enough in every command.
    *spare*: columns that may be left out, the first one first.
    """

    def __init__(
        self, width: int, brief: Sequence[str] = (), spare: Sequence[str] = (), typed: Sequence[str] = ()
    ) -> None:
        self._width = width
        self._typed = typed
        self._brief = brief
        self._spare = spare

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print the rows."""
        names, rows = list(column_names), [list(row) for row in data]
        whole = (names, rows)
        if self._is_too_wide(names, rows):
            rows = _shortened(names, rows, self._brief)
        for name in self._spare:
            if self._is_too_wide(names, rows) and name in names:
                names, rows = _without(names, rows, names.index(name))
        if self._is_too_wide(names, rows):
            self._write_blocks(*whole, stdout)
        else:
            super().emit_list(names, rows, stdout, parsed_args)

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print the fields."""
        commands = [cell for name, cell in zip(column_names, data, strict=True) if name in self._typed]
        least = max([_ROOM_FOR_A_COMMAND, *(_framed(column_names, cell) for cell in commands)])
        if self._width < least:
            self._write_blocks(column_names, [data], stdout)
        else:
            framed = io.StringIO()
            super().emit_one(column_names, [_unbroken(cell) for cell in data], framed, parsed_args)
            stdout.write(apart(framed.getvalue()))

    def _write_blocks(self, names: Sequence[str], rows: Sequence[Sequence[Any]], stdout: TextIO) -> None:
        stdout.write("\n".join(_blocks(names, rows, self._width, self._typed)) + "\n")

    def _is_too_wide(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bool:
        columns = zip(names, *rows, strict=True)
        return sum(max(map(_width, column)) + len("|  ") for column in columns) + 1 > self._width


def _width(cell: Any) -> int:
    return max(map(cell_len, _text(cell).split("\n")))


def _unbroken(cell: Any) -> Any:
    return together(_text(cell)) if isinstance(cell, str | FormattableColumn) else cell


def _framed(names: Sequence[str], cell: Any) -> int:
    """Return how wide a thing's table is in which one cell is not broken."""
    return max(map(cell_len, names)) + _width(cell) + len("|  |  |")


def _text(cell: Any) -> str:
    return str(cell.human_readable() if isinstance(cell, FormattableColumn) else cell)


def _without(
    names: Sequence[str], rows: Sequence[Sequence[Any]], index: int
) -> tuple[list[str], list[list[Any]]]:
    return [*names[:index], *names[index + 1 :]], [[*row[:index], *row[index + 1 :]] for row in rows]


def _shortened(names: Sequence[str], rows: list[list[Any]], brief: Sequence[str]) -> list[list[Any]]:
    """Return the rows, in the columns *brief* as many characters as tell each row from the others."""
    rows = [list(row) for row in rows]
    for index in (names.index(name) for name in brief if name in names):
        cells = {str(row[index]) for row in rows}
        enough = next(n for n in itertools.count(_SHORT) if len({cell[:n] for cell in cells}) == len(cells))
        for row in rows:
            row[index] = str(row[index])[:enough]
    return rows


def _blocks(
    names: Sequence[str], rows: Sequence[Sequence[Any]], width: int, typed: Sequence[str]
) -> Iterable[str]:
    """Give the cells that are not empty, each beside its name, an empty line between rows."""
    label = max(map(cell_len, names)) + 2
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, cell in zip(names, row, strict=True):
            if text := _text(cell):
                beside, lines = f"{name:<{label}}", text.split("\n")
                if name in typed:
                    yield beside + text
                elif _goes_beside(lines, width - label):
                    yield from _words(lines, width, beside)
                else:
                    yield name
                    yield from _words(lines, width, _BENEATH)


def _goes_beside(lines: Sequence[str], room: int) -> bool:
    """Tell whether a cell has its place beside its name: it fits, or it is a sentence that has room there."""
    if max(map(cell_len, lines)) <= room:
        return True
    words = together(lines[0]).split()
    return len(lines) == 1 and max(map(cell_len, words)) <= room and room >= _ROOM_FOR_WORDS


def _words(lines: Sequence[str], width: int, beside: str) -> Iterable[str]:
    """Give the lines, broken between words; the first one stands behind *beside*, the others as far to the right."""
    room = " " * len(beside)
    for number, line in enumerate(lines):
        first = room if number else beside
        indent = room + " " * (len(line) - len(line.lstrip()))
        broken = textwrap.wrap(
            together(line),
            max(width, len(indent) + 1),
            initial_indent=first,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from map(apart, broken or [first.rstrip()])
