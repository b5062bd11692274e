"""Whose turn it is: decided from the states of a flow's steps, and from nothing else.

TaskFlow's engine must not be asked: loading a flow that is finished or stuck changes it (a REVERTED flow starts over,
one whose undo failed is called REVERTED). So this decides before the engine is loaded, and again after it has run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskflow import states

from hostler.flows.shape import Step

#: State and intention of each step by its name.
States = Mapping[str, tuple[str, str]]

_DONE_OR_BEGUN = (states.SUCCESS, states.FAILURE, states.REVERTING, states.RUNNING)


@dataclass(frozen=True)
class Execute:
    """The next thing to do is to carry out *step*."""

    step: Step


@dataclass(frozen=True)
class Revert:
    """The next thing to do is to undo *step*."""

    step: Step


@dataclass(frozen=True)
class Finished:
    """Nothing is left to do."""

    reverted: bool


@dataclass(frozen=True)
class Stuck:
    """The undo of *step* failed: only an operator can say what the world looks like."""

    step: Step


Decision = Execute | Revert | Finished | Stuck


def decide(shape: Sequence[Step], atoms: States) -> Decision:
    """Return what comes next in a linear flow.

    *shape* is the flow in order; *atoms* holds each of its steps.
    """
    for step in shape:
        if atoms[step.name][0] == states.REVERT_FAILURE:
            return Stuck(step)
    if is_reverting(atoms, shape):
        begun = [step for step in shape if atoms[step.name][0] in _DONE_OR_BEGUN]
        return Revert(begun[-1]) if begun else Finished(reverted=True)
    for step in shape:
        if atoms[step.name][0] in (states.PENDING, states.RUNNING):
            return Execute(step)
    return Finished(reverted=False)


def is_reverting(atoms: States, shape: Sequence[Step]) -> bool:
    """Tell whether the flow walks back, or has."""
    return any(
        atoms[step.name][0] in (states.FAILURE, states.REVERTING, states.REVERTED)
        or atoms[step.name][1] == states.REVERT
        for step in shape
    )
