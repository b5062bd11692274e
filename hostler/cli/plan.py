"""The plan that a dry run prints."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, TextIO

from hostler.cli.table import room
from hostler.cli.watch import JSON_FORMATS, goes_on
from hostler.flows.graph import prose
from hostler.flows.shape import SOURCE, Step
from hostler.views.changes import ending, heading, same_again
from hostler.views.follow import snapshots
from hostler.views.snapshot import Obstacle, Snapshot
from hostler.views.text import apart, printable, size, together

if TYPE_CHECKING:
    from hostler.jobboard.client import Client
    from hostler.scheduling.scheduler import Candidate

_REFUSED = 3
#: What is in the JSON of all that the checks have found.
_TOLD = ("bytes", "files", "in_place", "networks")
_INDENT = " " * 5  #: of a step's words that do not fit its line


def show(
    client: Client,
    uuid: str,
    out: TextIO,
    *,
    timeout_s: float,
    fmt: str = "auto",
    candidates: Sequence[Candidate] = (),
) -> int:
    """Wait for the checks of both hosts, print the plan; return 0, or 3 if the migration would be refused.

    *candidates*: what the scheduler has found, where it chose the destination.
    """
    from hostler import flows

    try:
        *_, seen = snapshots(client, uuid, timeout_s=timeout_s)
    except KeyboardInterrupt:
        return goes_on(uuid)
    steps = flows.shape_of("resize" if seen.new_flavor else "cold_migration")
    if fmt in JSON_FORMATS:
        lines = [json.dumps(_plan(seen, steps) | _hosts(candidates))]
    else:
        lines = [*_candidates(candidates), *_text(seen, steps, room(out))]
    out.write("\n".join(lines) + "\n")
    out.flush()
    return seen.exit_code


def show_none(server: str, candidates: Sequence[Candidate], out: TextIO, *, fmt: str = "auto") -> int:
    """Print why no host can have the server; return 3."""
    if fmt in JSON_FORMATS:
        lines = [json.dumps({"server": server, "exit_code": _REFUSED} | _hosts(candidates))]
    else:
        following = list(dict.fromkeys(one.next for one in candidates if one.next)) or ["hostler host list"]
        lines = [
            *_candidates(candidates),
            f"no host can take {printable(server)}",
            *(f"  try: {printable(one)}" for one in following),
        ]
    out.write("\n".join(lines) + "\n")
    out.flush()
    return _REFUSED


def _candidates(candidates: Sequence[Candidate]) -> list[str]:
    if not candidates:
        return []
    width = max(len(printable(one.host)) for one in candidates)
    lines = [
        f"  {printable(one.host):<{width}}  "
        + (f"weight {one.weight:.2f}" if one.weight is not None else f"no: {printable(one.reason)}")
        for one in candidates
    ]
    return ["hosts, the best first:", *lines, ""]


def _hosts(candidates: Sequence[Candidate]) -> dict[str, Any]:
    return {"hosts": [one.to_dict() for one in candidates]} if candidates else {}


def _obstacles(seen: Snapshot) -> list[Obstacle]:
    """Return what stands in the way, as reported, and what a step was refused for."""
    if seen.outcome != "refused" or seen.error is None:
        return seen.obstacles
    host = seen.cause.host if seen.cause else seen.source
    return [*seen.obstacles, Obstacle(host, seen.error, seen.hint or "")]


def _text(seen: Snapshot, steps: Sequence[Step], width: int | None) -> list[str]:
    lines = [f"plan for {heading(seen)}", ""]
    for number, step in enumerate(steps, 1):
        line = f"  {number:>2} {printable(_host(seen, step))}  {step.name}: {prose(step.does)}"
        broken = [line] if width is None else textwrap.wrap(together(line), width, subsequent_indent=_INDENT)
        lines += map(apart, broken)
        if step.point_of_no_return:
            lines.append("     -- point of no return: from here forward only --")
    lines += ["", *_bytes(seen), *_networks(seen), "", *_verdict(seen)]
    return lines


def _bytes(seen: Snapshot) -> list[str]:
    report = seen.report or {}
    if "bytes" not in report:
        return []
    files = report.get("files") or []
    lines = [f"{size(report['bytes'])} to copy in {len(files)} file{'' if len(files) == 1 else 's'}:"]
    lines += [f"  {size(entry['bytes']):>10}  {printable(entry['path'])}" for entry in files]
    return lines + [f"  {'in place':>10}  {printable(path)}" for path in seen.in_place]


def _networks(seen: Snapshot) -> list[str]:
    renamed = (seen.report or {}).get("networks") or {}
    lines = [f"  {printable(there)} -> {printable(here)}" for there, here in renamed.items()]
    return ["", f"called otherwise on {printable(seen.dest)}:", *lines] if lines else []


def _verdict(seen: Snapshot) -> list[str]:
    found = _obstacles(seen)
    if not found:
        sentence, following = ending(seen)
        return [sentence, *([f"  try: {following}"] if following else [])]
    lines = ["it would be refused:"]
    for what, alike in groupby(found, key=lambda one: one.next):
        lines += [f"  {printable(one.host)}: {printable(one.problem)}" for one in alike]
        lines += [f"    try: {printable(what)}"] if what else []
    return [*lines, f"  then: {printable(same_again(seen))}"]


def _host(seen: Snapshot, step: Step) -> str:
    return seen.source if step.where == SOURCE else seen.dest


def _plan(seen: Snapshot, steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "server": seen.server,
        "source": seen.source,
        "dest": seen.dest,
        "steps": [{"host": _host(seen, step), "name": step.name, "does": step.does} for step in steps],
        "problems": [dataclasses.asdict(one) for one in _obstacles(seen)],
        "exit_code": seen.exit_code,
        **{key: value for key, value in (seen.report or {}).items() if key in _TOLD},
    }
