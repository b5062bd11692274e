"""Steps of the way back behind the hand-back: each is the undo of a step of the way out, carried out once more."""

from __future__ import annotations

from typing import Any

from hostler.tasks.base import HostTask, Leg

#: What an undo gets that is no fact of the migration.
_GIVEN = ("leg", "result", "flow_failures")


class Undo(HostTask):
    """Undo a step of the migration as that step itself would, from what it has written down.

    Reverts by: nothing; the source has the server again.
    """

    forward_only = True

    def __init__(self, step: HostTask, where: str | None = None) -> None:
        """*step* is undone on the host where it was done, unless *where* names another."""
        wanted = [name for name in step.revert_rebind if name not in _GIVEN]
        super().__init__(name=f"Undo{step.name}", requires=wanted)
        self.step = step
        self.where = where or step.where  # type: ignore[misc]
        self.touches_domain = step.touches_domain  # type: ignore[misc]
        self.guards_data = step.guards_data  # type: ignore[misc]
        _, _, undo = " ".join((type(step).__doc__ or "").split()).partition("Reverts by: ")
        self.does = f"Undo {step.name}: {undo}"

    def execute(self, leg: Leg, **facts: Any) -> None:
        """Undo it; nothing if it is undone."""
        self.step.revert(leg=leg, result=None, flow_failures={}, **facts)
