"""The states of servers and migrations, and every way from one to another.

The words are Nova's, and so are the transitions where both have the same step; where hostler's differ, the row says
why. Whoever writes a state does it through :func:`hostler.records.instances.save` or
:func:`hostler.records.moves.save`, whose statements expect a state from which the new one may be entered.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import false, or_, true
from sqlalchemy.sql import ColumnElement

#: A record that is not there yet.
NEW = "(new)"
#: Whatever state somebody has left behind.
ANY = "(any)"

State = str | None


class Kind(enum.StrEnum):
    """On whose account a state changes."""

    FORWARD = "forward"
    UNDO = "undo"
    MEND = "mend"  #: an operator mends what no flow can: only a writer that says so


@dataclass(frozen=True)
class Transition:
    """One way from a state to another."""

    before: State
    after: State
    by: str  #: the step, or the command, that takes it
    note: str = ""  #: where it is not Nova's: why
    kind: Kind = Kind.FORWARD


@dataclass(frozen=True)
class Machine:
    """One field of a record, and every transition that it may make. Staying is none, and always allowed."""

    field: str
    transitions: tuple[Transition, ...]

    @property
    def states(self) -> list[State]:
        """Every state, in the order in which a migration meets them."""
        found = dict.fromkeys(end for one in self.transitions for end in (one.before, one.after))
        return [state for state in found if state not in (NEW, ANY)]

    def sources(self, after: State, *, mending: bool = False) -> set[State]:
        """Return the states from which *after* may be entered, and *after* itself."""
        return {after} | {
            one.before
            for one in self.transitions
            if one.after == after and (mending or one.kind is not Kind.MEND)
        }

    def allows(self, before: State, after: State, *, mending: bool = False) -> bool:
        """Tell whether *before* may become *after*."""
        sources = self.sources(after, mending=mending)
        return before in sources or ANY in sources


TASK_STATE = Machine(
    "task_state",
    (
        Transition(None, "resize_prep", "server migrate, server resize"),
        Transition("resize_prep", "resize_migrating", "EnterState resize_migrating"),
        Transition(
            "resize_migrating",
            "resize_migrated",
            "EnterState resize_migrated",
            "Nova's also makes the destination the server's host; here that is the hand-over's",
        ),
        Transition("resize_migrated", "resize_finish", "EnterState resize_finish"),
        Transition(
            "resize_finish", None, "HandOver", "and the server's host changes in the same transaction"
        ),
        Transition(None, "resize_reverting", "server revert"),
        Transition("resize_reverting", None, "the revert's hand-over"),
        Transition(
            "resize_prep",
            None,
            "the end of a migration that was undone, or never posted",
            "Nova clears any state at an exception, whatever was undone; here the steps have walked back",
            Kind.UNDO,
        ),
        Transition(
            "resize_migrating",
            "resize_prep",
            "undo of EnterState resize_migrating",
            "Nova has no undo",
            Kind.UNDO,
        ),
        Transition(
            "resize_migrated",
            "resize_migrating",
            "undo of EnterState resize_migrated",
            "Nova has no undo",
            Kind.UNDO,
        ),
        Transition(
            "resize_finish",
            "resize_migrated",
            "undo of EnterState resize_finish",
            "Nova has no undo",
            Kind.UNDO,
        ),
        Transition(
            "resize_reverting",
            None,
            "the end of a revert that was undone, or never posted",
            "Nova leaves an error",
            Kind.UNDO,
        ),
        Transition(
            None,
            "resize_finish",
            "migration recover --drop-writes",
            "the hand-over is taken back from a destination that will not return; Nova has no such way",
            Kind.MEND,
        ),
        Transition(
            "resize_reverting",
            "resize_finish",
            "migration recover --drop-writes",
            "the same, of a server that was about to go back and is not handed back yet",
            Kind.MEND,
        ),
        Transition(
            ANY,
            None,
            "doctor --fix",
            "only where no migration is at work on the server; Nova's os-resetState does not look",
            Kind.MEND,
        ),
    ),
)

VM_STATE = Machine(
    "vm_state",
    (
        Transition(NEW, "active", "the worker, which records a domain that runs"),
        Transition(NEW, "stopped", "the worker, which records a domain that is off"),
        Transition("active", "stopped", "the worker, which follows the domain's power state"),
        Transition("stopped", "active", "the worker, which follows the domain's power state"),
        Transition("active", "resized", "HandOver"),
        Transition("stopped", "resized", "HandOver"),
        Transition("resized", "active", "SettleGuest, by the power state; the revert's hand-over"),
        Transition("resized", "stopped", "SettleGuest, by the power state; the revert's hand-over"),
        Transition(
            "resized",
            "active",
            "migration recover --drop-writes",
            "back to what it was before the migration",
            Kind.MEND,
        ),
        Transition(
            "resized",
            "stopped",
            "migration recover --drop-writes",
            "back to what it was before the migration",
            Kind.MEND,
        ),
    ),
)

STATUS = Machine(
    "status",
    (
        Transition(NEW, "pre-migrating", "server migrate, server resize"),
        Transition("pre-migrating", "migrating", "EnterState resize_migrating"),
        Transition("migrating", "post-migrating", "EnterState resize_migrated"),
        Transition("post-migrating", "finished", "HandOver"),
        Transition("finished", "confirming", "server confirm"),
        Transition("confirming", "confirmed", "SettleGuest"),
        Transition("finished", "reverting", "server revert"),
        Transition(
            "reverting",
            "reverted",
            "the revert's end",
            "Nova's destination says so before the source has done anything",
        ),
        Transition(
            "migrating", "pre-migrating", "undo of EnterState resize_migrating", "Nova has no undo", Kind.UNDO
        ),
        Transition(
            "post-migrating", "migrating", "undo of EnterState resize_migrated", "Nova has no undo", Kind.UNDO
        ),
        Transition(
            "pre-migrating",
            "error",
            "the end of a migration that was undone, or never posted",
            "Nova goes there from any state; here the steps have walked back",
            Kind.UNDO,
        ),
        Transition(
            "pre-migrating",
            "cancelled",
            "the end of a migration that was cancelled",
            "Nova cancels live migrations only",
            Kind.UNDO,
        ),
        Transition(
            "confirming",
            "finished",
            "the end of a confirmation that was refused, or never posted",
            "in Nova a confirmation that failed cannot be asked for again",
            Kind.UNDO,
        ),
        Transition(
            "reverting",
            "finished",
            "the end of a revert that was undone, or never posted",
            "in Nova a revert that failed cannot be asked for again",
            Kind.UNDO,
        ),
        Transition(
            "finished",
            "post-migrating",
            "migration recover --drop-writes",
            "the hand-over is taken back",
            Kind.MEND,
        ),
        Transition(
            "confirming",
            "post-migrating",
            "migration recover --drop-writes",
            "the hand-over is taken back, as long as nothing that was set aside is being removed",
            Kind.MEND,
        ),
        Transition(
            "reverting",
            "post-migrating",
            "migration recover --drop-writes",
            "the hand-over is taken back from a destination that died before it had let go of the server",
            Kind.MEND,
        ),
    ),
)

MACHINES = {machine.field: machine for machine in (TASK_STATE, VM_STATE, STATUS)}

#: Nova's transitions that hostler has not, and why.
LEFT_OUT = (
    (
        "task_state",
        "resize_prep to resize_prep",
        "no other destination is tried by itself: the migration is undone",
    ),
    ("task_state", "resize_reverting to powering-off", "the guest is started or not in the same flow"),
    ("vm_state", "any to error", "what fails is undone, or parked with the server's state as it is"),
    ("vm_state", "error to active", "no server enters error; one that others put there is left alone"),
    (
        "status",
        "any to error",
        "only what has walked back whole is over; the rest is parked, and says so in its phase",
    ),
    ("status", "error to failed", "nothing is left behind that somebody would have to sweep up later"),
)


def among(column: Any, states: Collection[State]) -> ColumnElement[bool]:
    """Return the condition that *column* is one of *states*, of which None may be one."""
    if ANY in states:
        return true()
    named = sorted(state for state in states if state is not None)
    return or_(column.in_(named), column.is_(None) if None in states else false())


def may_become(model: Any, changes: dict[str, Any], *, mending: bool) -> Iterator[ColumnElement[bool]]:
    """Give the conditions under which the states among *changes* may be entered."""
    for field in _fields(changes):
        yield among(getattr(model, field), MACHINES[field].sources(changes[field], mending=mending))


def refused(row: Any, changes: dict[str, Any], *, mending: bool) -> tuple[str, State, State] | None:
    """Return field, old and new state of a change that *row* may not make; None if it may make all of them."""
    for field in _fields(changes):
        before, after = getattr(row, field), changes[field]
        if not MACHINES[field].allows(before, after, mending=mending):
            return field, before, after
    return None


def _fields(changes: dict[str, Any]) -> Iterable[str]:
    return [field for field in MACHINES if field in changes]


def to_dot(machine: Machine) -> str:
    """Draw *machine* for Graphviz: forward, undone, and mended (dotted)."""
    styles = {Kind.FORWARD: "solid", Kind.UNDO: "dashed", Kind.MEND: "dotted"}
    lines = [
        f"digraph {machine.field} {{",
        '  rankdir=LR; node [shape=box, style=rounded, fontname="sans-serif"];',
    ]
    lines.append('  edge [fontname="sans-serif", fontsize=9];')
    drawn = dict.fromkeys((one.before, one.after, one.kind) for one in machine.transitions)
    for before, after, kind in drawn:
        lines.append(f'  "{before}" -> "{after}" [style={styles[kind]}];')
    return "\n".join([*lines, "}", ""])
