"""Following a migration until it ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live

from hostler.cli.base import EXIT_INTERRUPTED
from hostler.cli.live import Picture
from hostler.views.changes import Change, Changes, end, ending
from hostler.views.follow import everything, snapshots
from hostler.views.snapshot import Snapshot
from hostler.views.text import clock, command, printable
from hostler.views.turns import Turns, Waiting

if TYPE_CHECKING:
    from hostler.jobboard.client import Client

JSON_FORMATS = ("ndjson", "json")  #: two words for one thing: each line is a whole object
FORMATS = ("auto", "live", "plain", *JSON_FORMATS)
_WORST_FIRST = (5, 4, 3, 1, 0)  #: exit codes


class View(Protocol):
    """Shows snapshots as they come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, seen: Snapshot, waiting: Waiting | None) -> None:
        """Show what is new of one migration; of its last snapshot also how it ended."""

    def show_all(self, seen: Sequence[tuple[Snapshot, Waiting | None]]) -> None:
        """Show what is new of several."""


class LineView(AbstractContextManager["LineView", None]):
    """One line for each change: for logs and pipes."""

    def __init__(self, out: TextIO, *, ndjson: bool = False) -> None:
        self._out = out
        self._ndjson = ndjson
        self._changes: dict[str, Changes] = {}

    def __exit__(self, *_: object) -> None:
        """Every line is out already."""

    def show(self, seen: Snapshot, waiting: Waiting | None) -> None:
        """Print the changes."""
        self._show(seen, waiting)

    def show_all(self, seen: Sequence[tuple[Snapshot, Waiting | None]]) -> None:
        """Print the changes of each; a line for people says whose it is."""
        for one, waiting in seen:
            self._show(one, waiting, f"{printable(one.server)}: ")

    def _show(self, seen: Snapshot, waiting: Waiting | None, whose: str = "") -> None:
        changes = self._changes.setdefault(seen.uuid, Changes())
        for change in changes.of(seen, waiting):
            self._print(seen, change, "" if change.kind == "begin" else whose)
        if seen.ended:
            last = end(seen)
            self._print(seen, last, whose)
            if last.data.get("next") and not self._ndjson:
                self._out.write(f"  next: {last.data['next']}\n")
                self._out.flush()

    def _print(self, seen: Snapshot, change: Change, whose: str) -> None:
        self._out.write((change.ndjson(seen) if self._ndjson else change.plain(whose)) + "\n")
        self._out.flush()


class LiveView(AbstractContextManager["LiveView", None]):
    """The picture of a terminal."""

    def __init__(self, console: Console) -> None:
        self._picture = Picture(console)
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()

    def show(self, seen: Snapshot, waiting: Waiting | None) -> None:
        """Draw it again; what was tried in vain stays above the picture as a line."""
        if seen.successor is not None:
            self._say(end(seen).plain())
            return
        if seen.ended:
            self._live.vertical_overflow = "visible"
        self._live.update(self._picture.draw(seen, waiting, whole=seen.ended), refresh=True)

    def show_all(self, seen: Sequence[tuple[Snapshot, Waiting | None]]) -> None:
        """Draw those under way; how one has ended stays above the picture."""
        for one, _ in seen:
            if one.ended:
                sentence, following = ending(one)
                self._say(f"{clock(one.finished_at or one.at)} {sentence}")
                if following:
                    self._say(f"  next: {following}")
        under_way = [(one, waiting) for one, waiting in seen if not one.ended]
        self._live.update(self._picture.overview(under_way), refresh=True)

    def _say(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add ``--format``, as all commands that wait have it."""
    parser.add_argument(
        "-f",
        "--format",
        choices=FORMATS,
        default="auto",
        help="How to show it: live (a picture, on a terminal), plain (a line for each change), ndjson or json"
        " (a JSON object for each change). Otherwise live on a terminal and plain elsewhere.",
    )


def seconds(text: str) -> float:
    """Return a number of seconds above 0: for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0")
    return value


def follow(
    client: Client, uuid: str, out: TextIO, *, fmt: str = "auto", timeout_s: float | None = None
) -> int:
    """Show the migration until it ends; return the exit code of its outcome."""
    turns = Turns(client)
    code = 1
    try:
        with _view(fmt, out) as view:
            for seen in snapshots(client, uuid, timeout_s=timeout_s):
                view.show(seen, turns.of(seen))
                code = seen.exit_code
    except KeyboardInterrupt:
        return goes_on(uuid)
    return code


def follow_all(client: Client, out: TextIO, *, fmt: str = "auto", timeout_s: float | None = None) -> int:
    """Show all migrations under way until there is none; return the worst of their exit codes."""
    turns = Turns(client)
    codes = {0}
    try:
        with _view(fmt, out) as view:
            for seen in everything(client, timeout_s=timeout_s):
                view.show_all([(one, turns.of(one)) for one in seen])
                codes |= {one.exit_code for one in seen if one.ended and one.successor is None}
    except KeyboardInterrupt:
        return goes_on("--all")
    return next(code for code in _WORST_FIRST if code in codes)


def goes_on(uuid: str) -> int:
    """Say that only the watching ended; return the exit code."""
    goes, it = ("migrations go", "them") if uuid == "--all" else ("migration goes", "it")
    sys.stderr.write(f"\nhostler: the {goes} on\n")
    watch = "hostler migration watch --all" if uuid == "--all" else command("migration", "watch", uuid)
    sys.stderr.write(f"  watch {it}: {watch}\n")
    return EXIT_INTERRUPTED


def _view(fmt: str, out: TextIO) -> View:
    if fmt == "auto":
        fmt = (
            "live" if out.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown") else "plain"
        )
    if fmt == "live":
        return LiveView(Console(file=out))
    return LineView(out, ndjson=fmt in JSON_FORMATS)
