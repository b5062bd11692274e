"""What happens, in order. A flow is named in a job, and found here: never imported by a path that a job brings."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from taskflow.patterns import linear_flow

from hostler.errors import FlowNotFound, StepNotFound
from hostler.flows.cold_migration import cold_migration, dry_run
from hostler.flows.confirm_resize import confirm_resize
from hostler.flows.resize import resize
from hostler.flows.revert_resize import revert_resize
from hostler.flows.shape import Step
from hostler.tasks.base import HostTask

FLOWS: dict[str, Callable[[], linear_flow.Flow]] = {
    "cold_migration": cold_migration,
    "confirm_resize": confirm_resize,
    "dry_run": dry_run,
    "resize": resize,
    "revert_resize": revert_resize,
}

#: The flows that hand a server over, and leave a way back until it is confirmed.
MOVES = ("cold_migration", "resize")

#: What TaskFlow or the leg itself gives to a step.
_GIVEN = {"leg", "result", "flow_failures"}


@functools.cache
def make(name: str) -> linear_flow.Flow:
    """Return the flow of that name: one object, since neither an engine nor a step keeps anything in it."""
    try:
        return FLOWS[name]()
    except KeyError:
        raise FlowNotFound(name=name, known=", ".join(sorted(FLOWS))) from None


@functools.lru_cache(maxsize=64)
def as_posted(name: str, steps: tuple[tuple[str, str, str], ...]) -> linear_flow.Flow:
    """Return a flow of the steps that were posted, each (name, role of its host, version): one object, as above.

    An earlier version may have had fewer steps, or another order. A step is known by all three, in whatever flow this
    version has it; one that it has in none is :class:`~hostler.errors.StepNotFound`.
    """
    if name in FLOWS and steps == tuple(map(_identity, make(name))):
        return make(name)
    own_last = sorted(FLOWS, key=lambda flow: flow == name)
    known = {_identity(task): task for flow in own_last for task in make(flow)}
    flow = linear_flow.Flow(name)
    for step in steps:
        if step not in known:
            raise StepNotFound(step=step[0], version=step[2])
        flow.add(known[step])
    return flow


def _identity(task: HostTask) -> tuple[str, str, str]:
    return task.name, task.where, ".".join(map(str, task.version))


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
        elsewhere=task.elsewhere,
        point_of_no_return=task.point_of_no_return,
    )
