"""Nova's states, as the flow passes through them."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hostler.errors import UnexpectedTaskStateError
from hostler.records import instances, moves
from hostler.tasks.base import HostTask, Leg


class EnterState(HostTask):
    """Move the server's task state and the migration's status on, by compare-and-swap.

    Reverts by: moving both back.
    """

    undone_anywhere = True

    def __init__(self, where: str, task_state: tuple[str, str], status: tuple[str, str]) -> None:
        """*task_state* and *status* are (expected, new) each."""
        super().__init__(name=f"EnterState {task_state[1]}")
        self.where = where  # type: ignore[misc]
        self.task_state = task_state
        self.status = status
        self.does = f"The server's task state becomes {task_state[1]}, the migration {status[1]}."

    def execute(self, leg: Leg) -> None:
        """Move on; :class:`~hostler.errors.UnexpectedTaskStateError` if somebody else changed the state."""
        with leg.records.transaction() as session:
            self._move(session, leg, self.task_state, self.status)

    def revert(self, leg: Leg, **_: Any) -> None:
        """Move back what is as this step left it; what it never changed, or others have since, stays."""
        (before, after), instance = self.task_state, leg.migration.instance
        with leg.records.transaction() as session:
            if instances.get(session, instance).task_state == after:
                instances.save(session, instance, expected_task_state=[after], task_state=before)
            moves.save(session, leg.migration.uuid, expected_status=self.status[1:], status=self.status[0])

    @staticmethod
    def _move(session: Session, leg: Leg, task_state: tuple[str, str], status: tuple[str, str]) -> None:
        migration = moves.get(session, leg.migration.uuid)
        instances.save(
            session, leg.migration.instance, expected_task_state=task_state, task_state=task_state[1]
        )
        if not moves.save(session, migration.uuid, expected_status=status, status=status[1]):
            raise UnexpectedTaskStateError(
                instance=leg.migration.instance, actual=migration.status, expected=" or ".join(status)
            )
