"""Cells of several lines: in a table as an operator reads them, for a program as objects."""

from __future__ import annotations

from typing import Any

from cliff.columns import FormattableColumn

from hostler.views.text import duration, printable, size_of


class Lines(FormattableColumn[list[dict[str, Any]]]):
    """A cell of several lines: one for each row in a table, a list of objects in JSON."""

    def human_readable(self) -> str:
        """Return the rows, their values side by side."""
        return "\n".join(
            "  ".join(printable(value) for value in row.values() if value not in (None, ""))
            for row in self._value
        )


class Steps(Lines):
    """A cell of steps: in a table the error beneath each, and the time it took with its unit."""

    def human_readable(self) -> str:
        """Return the rows."""
        return "\n".join(line for row in self._value for line in _step(row))


def _step(row: dict[str, Any]) -> list[str]:
    spent = [] if row["seconds"] is None else [duration(row["seconds"])]
    words = [f"{row['number']:>2}", row["host"], row["name"], row["state"], *spent]
    return ["  ".join(map(printable, words)), *_beneath(row["error"])]


class Files(Lines):
    """A cell of files and how much of each has been copied."""

    def human_readable(self) -> str:
        """Return the rows."""
        return "\n".join(
            f"{printable(row['path'])}  {size_of(row['done_bytes'], row['total_bytes'])}"
            for row in self._value
        )


class History(Lines):
    """A cell of what happened: in a table as an operator reads it, an error beneath its step."""

    def human_readable(self) -> str:
        """Return a line for each entry."""
        return "\n".join(line for row in self._value for line in _happened(row))


def _happened(row: dict[str, Any]) -> list[str]:
    spent = row.get("seconds")
    words = [
        row["at"],
        row["host"] or "operator" if row.get("by_operator") else row["host"] or "-",
        row["text"],
    ]
    line = "  ".join(printable(word) for word in words) + ("" if spent is None else f"  {duration(spent)}")
    return [line, *_beneath(row.get("error"))]


def _beneath(error: str | None) -> list[str]:
    return [f"    {printable(error)}"] if error else []
