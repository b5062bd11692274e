"""Following a migration until it ends."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live

from hostler.cli.base import EXIT_INTERRUPTED
from hostler.cli.live import Picture
from hostler.errors import HostlerError, ServerUnreachable
from hostler.flows.graph import RUNNING, UNDOING
from hostler.views.changes import Change, Changes, end
from hostler.views.snapshot import Reader, Snapshot
from hostler.views.text import command, duration, printable

if TYPE_CHECKING:
    from hostler.jobboard.client import Client

JSON_FORMATS = ("ndjson", "json")  #: two words for one thing: each line is a whole object
FORMATS = ("auto", "live", "plain", *JSON_FORMATS)

_TICK_S = 0.25
_PATIENCE_S = 4.0  #: a database that is away for longer ends the watching; with its own timeout: within 10 s
_IDLE_S = 3.0  #: a turn that nobody takes for longer makes us look whether a worker is there
_LOOK_S = 5.0  #: between two such looks
_BLIND_S = 30.0  #: without ZooKeeper's news after it did not answer


class WaitTimeoutError(HostlerError):
    """The time to wait is over; the migration is not."""

    template = "the migration is still under way after {waited}; it goes on"


class View(Protocol):
    """Shows snapshots as they come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, seen: Snapshot, note: str) -> None:
        """Show what is new; of the last snapshot also how it ended."""


class LineView(AbstractContextManager["LineView", None]):
    """One line for each change: for logs and pipes."""

    def __init__(self, out: TextIO, *, ndjson: bool = False) -> None:
        self._out = out
        self._ndjson = ndjson
        self._changes = Changes()
        self._uuid = ""

    def __exit__(self, *_: object) -> None:
        """Every line is out already."""

    def show(self, seen: Snapshot, note: str) -> None:
        """Print the changes."""
        if seen.uuid != self._uuid:
            self._uuid, self._changes = seen.uuid, Changes()
        for change in self._changes.of(seen, note):
            self._print(change)
        if seen.ended:
            last = end(seen)
            self._print(last)
            if last.data.get("next") and not self._ndjson:
                self._out.write(f"  next: {last.data['next']}\n")
                self._out.flush()

    def _print(self, change: Change) -> None:
        self._out.write((change.ndjson() if self._ndjson else change.plain()) + "\n")
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

    def show(self, seen: Snapshot, note: str) -> None:
        """Draw it again; what was tried in vain stays above the picture as a line."""
        if seen.successor is not None:
            self._live.console.print(end(seen).plain(), markup=False, highlight=False)
            return
        if seen.ended:
            self._live.vertical_overflow = "visible"
        self._live.update(self._picture.draw(seen, note, whole=seen.ended), refresh=True)


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
    attendant = _Attendant(client)
    code = 1
    try:
        with _view(fmt, out) as view:
            for seen in snapshots(client, uuid, timeout_s=timeout_s):
                view.show(seen, attendant.note(seen))
                code = seen.exit_code
    except KeyboardInterrupt:
        return goes_on(uuid)
    return code


def goes_on(uuid: str) -> int:
    """Say that only the watching ended; return the exit code."""
    sys.stderr.write("\nhostler: the migration goes on\n")
    sys.stderr.write(f"  watch it: {command('migration', 'watch', uuid)}\n")
    return EXIT_INTERRUPTED


def snapshots(client: Client, uuid: str, *, timeout_s: float | None = None) -> Iterator[Snapshot]:
    """Give snapshots until the migration has ended; one that goes on with another host is followed.

    A database that is away for a moment is waited for; :class:`WaitTimeoutError` after *timeout_s*.
    """
    reader, pace = Reader(uuid), _Pace(client, uuid)
    began = time.monotonic()
    good: float | None = None
    while True:
        try:
            with client.database.reading() as session:
                seen = reader.read(session)
        except ServerUnreachable:
            if good is None or time.monotonic() - good > _PATIENCE_S:
                raise
            time.sleep(_TICK_S)
            continue
        good = time.monotonic()
        yield seen
        if seen.successor is not None:
            uuid = seen.successor.uuid
            reader, pace = Reader(uuid), _Pace(client, uuid)
            continue
        if seen.ended:
            return
        if timeout_s is not None and good - began >= timeout_s:
            hint = command("migration", "watch", uuid)
            raise WaitTimeoutError(waited=duration(timeout_s), hint=hint)
        pace.wait()


class _Pace:
    """The time between two snapshots: until ZooKeeper has news, or a tick."""

    def __init__(self, client: Client, uuid: str) -> None:
        self._client = client
        self._uuid = uuid
        self._blind_until = 0.0

    def wait(self) -> None:
        if time.monotonic() >= self._blind_until:
            try:
                self._client.wait_for_change(self._uuid, _TICK_S)
            except ServerUnreachable:  # what is shown comes from the database
                self._blind_until = time.monotonic() + _BLIND_S
            else:
                return
        time.sleep(_TICK_S)


class _Attendant:
    """Tells what a migration waits for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turn: tuple[str, str] | None = None
        self._since = 0.0
        self._looked = 0.0
        self._finding = ""

    def note(self, seen: Snapshot) -> str:
        turn = seen.turn
        if seen.ended or turn is None or turn.state in (RUNNING, UNDOING):
            self._turn = None
            return ""
        clock = time.monotonic()
        if self._turn != (turn.host, turn.name):
            self._turn, self._since, self._finding = (turn.host, turn.name), clock, ""
        if clock - self._since < _IDLE_S:
            return ""
        if clock - self._looked >= _LOOK_S or not self._finding:
            self._looked, self._finding = clock, self._look(turn.host)
        doing = "undo" if seen.reverting else "do"
        return f"it is {printable(turn.host)}'s turn to {doing} {turn.name}: {self._finding}"

    def _look(self, host: str) -> str:
        try:
            alive = host in self._client.live_workers()
            return "waiting for a free place there" if alive else "no worker is alive there"
        except ServerUnreachable:
            return "ZooKeeper does not answer"


def _view(fmt: str, out: TextIO) -> View:
    if fmt == "auto":
        fmt = (
            "live" if out.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown") else "plain"
        )
    if fmt == "live":
        return LiveView(Console(file=out))
    return LineView(out, ndjson=fmt in JSON_FORMATS)
