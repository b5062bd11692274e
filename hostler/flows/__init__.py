"""What happens, in order. A flow is named in a job, and found here: never imported by a path that a job brings."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from taskflow.patterns import linear_flow

from hostler.errors import FlowNotFound
from hostler.flows.cold_migration import cold_migration, dry_run
from hostler.flows.confirm_resize import confirm_resize
from hostler.flows.shape import Step
from hostler.tasks.base import HostTask

FLOWS: dict[str, Callable[[], linear_flow.Flow]] = {
    "cold_migration": cold_migration,
    "confirm_resize": confirm_resize,
    "dry_run": dry_run,
}

#: What TaskFlow or the leg itself gives to a step.
_GIVEN = {"leg", "result", "flow_failures"}


@functools.cache
def make(name: str) -> linear_flow.Flow:
    """Return the flow of that name: one object, since neither an engine nor a step keeps anything in it."""
    try:
        return FLOWS[name]()
    except KeyError:
        raise FlowNotFound(name=name, known=", ".join(sorted(FLOWS))) from None


@functools.cache
def shape_of(name: str) -> tuple[Step, ...]:
    """Return the steps of the flow of that name, in order."""
    return tuple(_step(task) for task in make(name))


def _step(task: HostTask) -> Step:
    text = " ".join((type(task).__doc__ or "").split())
    does, _, undo = text.partition("Reverts by: ")
    return Step(
        name=task.name,
        where=task.where,
        does=task.does or re.split(r"(?<=\.)\s", does.strip())[0],
        undo=task.undo or undo,
        requires=sorted(set(task.requires) - _GIVEN),
        provides=sorted(task.provides),
        skippable=not task.guards_data,
        undone_anywhere=task.undone_anywhere,
        point_of_no_return=task.point_of_no_return,
    )
