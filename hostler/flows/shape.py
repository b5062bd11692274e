"""What a flow looks like from outside: its steps in order, whose each is, and what undoes it.

The shape is stored with every flow when it is posted, so that whoever decides, draws or lists a migration reads it
from the records and never from the code of another version.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hostler.objects import DEST, SOURCE, Record

__all__ = ["DEST", "SOURCE", "Step"]


@dataclass(frozen=True)
class Step(Record):
    """One task of a flow."""

    name: str
    where: str  #: ``source`` or ``dest``: the role; the migration's record says which host plays it
    does: str = ""  #: the first sentence of the task's docstring
    undo: str = ""  #: what stands there after "Reverts by:"
    requires: list[str] = field(default_factory=list)
    provides: list[str] = field(default_factory=list)
    skippable: bool = False  #: an operator may take it as done, or as undone: it guards no data
    undone_anywhere: bool = False  #: its undo touches no host: where its own is dead, the other does it
    elsewhere: bool = False  #: its failure speaks against the destination: another may do better
    point_of_no_return: bool = False  #: after it has succeeded nothing before it is undone
