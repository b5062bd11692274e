"""What changed between two snapshots: a line each, for a log, or for a program."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from hostler import networks
from hostler.drivers.files import markers
from hostler.errors import and_then
from hostler.flows.graph import FAILED, PENDING, Mark
from hostler.views.snapshot import EventView, FileView, Snapshot
from hostler.views.steps import StepView
from hostler.views.text import clock, command, duration, printable, size, size_of, stamp
from hostler.views.turns import Waiting

#: What the lines of the steps, of the next attempt and of the end say already.
_QUIET = ("posted", "claimed", "handed-over", "finished", "rescheduled", "given-up")
_COPY_INTERVAL_S = 5.0


#: What a change may be.
KINDS = ("begin", "step", "copy", "event", "waiting", "retry", "end")


@dataclass(frozen=True)
class Change:
    """One thing that happened. *kind*: one of :data:`KINDS`."""

    kind: str
    at: datetime.datetime
    text: str
    data: dict[str, Any] = field(default_factory=dict)

    def plain(self, whose: str = "") -> str:
        """Return it as a line of a log; *whose*: what comes before its words."""
        return f"{clock(self.at)} {whose}{self.text}"

    def ndjson(self, seen: Snapshot) -> str:
        """Return it as one JSON object on one line, as :mod:`hostler.views.schema` describes it."""
        head = {"at": stamp(self.at), "kind": self.kind, "migration": seen.uuid, "server": seen.server}
        return json.dumps(head | self.data)


class Changes:
    """Tells what is new in each snapshot."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._copied: dict[str, tuple[datetime.datetime, int]] = {}
        self._event = 0
        self._waiting: Waiting | None = None

    def of(self, seen: Snapshot, waiting: Waiting | None = None) -> list[Change]:
        """Return what changed since the last snapshot, in the order in which it happened."""
        changes = [] if self._before else [_begin(seen)]
        changes += sorted([*self._steps(seen), *self._events(seen)], key=lambda change: change.at)
        changes += self._copies(seen)
        if waiting is not None and waiting != self._waiting:
            data = waiting.to_dict() | {"since": stamp(waiting.since)}
            changes.append(Change("waiting", seen.at, waiting.text, data))
        self._waiting = waiting
        self._before = seen
        return changes

    def _steps(self, seen: Snapshot) -> Iterator[Change]:
        same_flow = self._before is not None and self._before.flow_uuid == seen.flow_uuid
        before = {view.number: view.mark for view in self._before.steps} if self._before and same_flow else {}
        for view in reversed(seen.steps) if seen.reverting else seen.steps:
            yield from _step_changes(view, before.get(view.number, Mark()), seen.at)

    def _events(self, seen: Snapshot) -> Iterator[Change]:
        for event in seen.events:
            if event.number > self._event:
                self._event = event.number
                if event.kind not in _QUIET:
                    yield _event(event)

    def _copies(self, seen: Snapshot) -> Iterator[Change]:
        for view in seen.files:
            told_at, told = self._copied.get(view.name, (None, -1))
            complete = view.done_bytes >= view.total_bytes
            due = told_at is None or (seen.at - told_at).total_seconds() >= _COPY_INTERVAL_S
            if view.done_bytes != told and (due or complete):
                self._copied[view.name] = (seen.at, view.done_bytes)
                yield Change("copy", seen.at, _copy_text(view), _copy_data(view))


def _begin(seen: Snapshot) -> Change:
    steps = [{"number": view.number, "step": view.name, "host": view.host} for view in seen.steps]
    data = {"flow": seen.flow, "source": seen.source, "dest": seen.dest, "steps": steps}
    return Change("begin", seen.begun_at, f"{heading(seen)} ({seen.flow} {seen.uuid})", data)


def heading(seen: Snapshot, arrow: str = "->") -> str:
    """Return who moves from where to where."""
    hosts = [printable(seen.source), printable(seen.dest)]
    if seen.flow == "revert_resize":
        hosts.reverse()
    return f"{printable(seen.server)}: {hosts[0]} {arrow} {hosts[1]}"


def _step_changes(view: StepView, before: Mark, at: datetime.datetime) -> Iterator[Change]:
    mark = view.mark
    if (mark.state, mark.error, mark.undo_error) == (before.state, before.error, before.undo_error):
        return
    if mark.error and not before.error and mark.backward:  # it failed and is being undone already
        yield _step(view, Mark(FAILED, error=mark.error), mark.started_at or at)
    if mark.state != PENDING:
        yield _step(view, mark, mark.finished_at or mark.started_at or at)


def _step(view: StepView, mark: Mark, at: datetime.datetime) -> Change:
    error = mark.undo_error or (mark.error if mark.state == FAILED else None)
    spent = mark.duration_s()
    words = [printable(view.host), view.name, mark.state]
    words += [] if spent is None else [duration(spent)]
    text = " ".join(words) + (f": {printable(error)}" if error else "")
    data = {"number": view.number, "step": view.name, "host": view.host, "state": mark.state}
    return Change("step", at, text, data | {"seconds": spent, "error": error})


def _event(event: EventView) -> Change:
    text = f"{printable(event.host)} {printable(event.text)}".lstrip()
    return Change("event", event.at, text, {"host": event.host, "event": event.kind, "text": event.text})


def file_name(view: FileView) -> str:
    """Return the last part of the path, fit for a terminal, as the file was called before it was set aside."""
    name = PurePosixPath(view.path).name or view.path
    if (migration := markers.migration_in(name)) is not None:
        name = name.removesuffix(f".{migration}_resize")
    return printable(name)


def progress(view: FileView) -> str:
    """Return bytes of how many, rate and time left, in words."""
    words = size_of(view.done_bytes, view.total_bytes)
    if view.left_s == 0:
        return words
    words += f", {size(view.rate_bytes_per_s)}/s"
    return words if view.left_s is None else f"{words}, {duration(view.left_s)} left"


def _copy_text(view: FileView) -> str:
    return f"copying {file_name(view)}: {progress(view)}"


def _copy_data(view: FileView) -> dict[str, Any]:
    return {
        "path": view.path,
        "done_bytes": view.done_bytes,
        "total_bytes": view.total_bytes,
        "rate_bytes_per_s": view.rate_bytes_per_s,
        "left_s": view.left_s,
    }


def ending(seen: Snapshot) -> tuple[str, str]:
    """Return how it ended, in a sentence, and what to type next."""
    server, error = printable(seen.server), printable(seen.error or "no reason was given")
    if seen.successor is not None:
        word = "refused" if seen.outcome == "refused" else "failed, and all was undone"
        return f"{seen.dest} {word}: {error}; goes on with {seen.successor.dest}", ""
    show = command("migration", "show", seen.uuid)
    sentences = {
        "refused": (f"refused, nothing was changed: {error}", ask_again(seen)),
        "reverted": (f"{_undone(seen, server)}: {error}", seen.hint or show),
        "parked": (f"{server} needs an operator: {error}", seen.hint or show),
    }
    if seen.outcome == "success":
        return _success(seen, server)
    sentence, hint = sentences.get(
        seen.outcome or seen.phase, (f"ended without an outcome: {error}", seen.hint or show)
    )
    return sentence, printable(hint)


def _undone(seen: Snapshot, server: str) -> str:
    undone = {"confirm_resize": "not confirmed", "revert_resize": "not brought back"}.get(seen.flow)
    return (
        f"{undone}, {server} is still on {seen.dest}"
        if undone
        else f"reverted, {server} is back on {seen.source}"
    )


def ask_again(seen: Snapshot) -> str:
    """Return what to type about a refusal: what its error says to, and then the same again."""
    again = same_again(seen)
    hint = seen.hint or next((one.next for one in seen.obstacles if one.next), "")
    if not hint:
        return f"mend that, then: {again}"
    says_so = hint.split()[:3] == again.split()[:3]  # it is the same, but for an option
    return hint if says_so else and_then(hint, again)


def same_again(seen: Snapshot) -> str:
    """Return the command that asks for the same again."""
    if seen.flow in ("confirm_resize", "revert_resize"):
        verb = ("confirm",) if seen.flow == "confirm_resize" else ("revert", "--reason", "...")
        return _again(seen, verb)
    to = [*([] if seen.chosen else ["--to", seen.dest]), *networks.words(seen.network_map)]
    return _again(seen, ("migrate", *to) if seen.flavor is None else ("resize", "--flavor", seen.flavor, *to))


def _again(seen: Snapshot, verb: Sequence[str]) -> str:
    dry = ("--dry-run",) if seen.migration_type == "dry-run" else ()
    return command("server", *verb, *dry, seen.server, fallback=seen.server_uuid)


def _success(seen: Snapshot, server: str) -> tuple[str, str]:
    took = duration(seen.elapsed_s)
    size = f" with flavor {printable(seen.flavor)}" if seen.flavor is not None else ""
    if seen.flow == "confirm_resize":
        return f"confirmed: {server} stays on {seen.dest}{size}; {_nothing_left(seen)}", ""
    if seen.flow == "revert_resize":
        power = f", {seen.power_state}" if seen.power_state else ""
        gone = "nothing is left of the other size" if seen.same_host else f"{seen.dest} has let go of it"
        return f"brought back: {server} is on {seen.source} again{power}; {gone} ({took})", ""
    if seen.obstacles:
        found = "; ".join(printable(f"{one.host}: {one.problem}") for one in seen.obstacles)
        return f"it would be refused: {found}", printable(ask_again(seen))
    if seen.migration_type == "dry-run":
        what = f"giving {server} flavor {printable(seen.flavor)} on" if size else f"moving {server} to"
        return f"nothing stands in the way of {what} {seen.dest}", ""
    power = f", {seen.power_state}" if seen.power_state else ""
    confirm = command("server", "confirm", seen.server, fallback=seen.server_uuid)
    kept = f"{seen.source} keeps its files{' as they were' if seen.same_host else ''} until it is confirmed"
    if seen.in_place:
        kept = f"{seen.source} can have it back until it is confirmed"
    return f"done: {server} is on {seen.dest}{size}{power}; {kept} ({took})", confirm


def _nothing_left(seen: Snapshot) -> str:
    if seen.same_host:
        return "nothing is left of its files as they were"
    shared = " but what both hosts share" if seen.in_place else ""
    return f"nothing of it is left on {seen.source}{shared}"


def end(seen: Snapshot) -> Change:
    """Return the last change of a migration; it is a ``retry`` if another follows."""
    sentence, following = ending(seen)
    if (after := seen.successor) is not None:
        following_up = {"successor": after.uuid, "dest": after.dest, "attempt": after.number}
        data = {"outcome": seen.outcome, "error": seen.error} | following_up
        return Change("retry", seen.finished_at or seen.at, sentence, data)
    data = {"outcome": seen.outcome or seen.phase, "exit_code": seen.exit_code, "error": seen.error}
    return Change("end", seen.finished_at or seen.at, sentence, data | {"next": following or None})
