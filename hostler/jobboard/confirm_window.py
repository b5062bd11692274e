"""``resize_confirm_window``: a migration that nobody confirms is confirmed by its destination, if the guest is well."""

from __future__ import annotations

import datetime
import logging

from sqlalchemy import select

from hostler.drivers.hypervisor import Hypervisor
from hostler.errors import HostlerError, ServerUnreachable
from hostler.jobboard import resized
from hostler.jobboard.board import Board
from hostler.objects import PowerState
from hostler.records import fence, instances, moves
from hostler.records.database import Database
from hostler.records.models import Instance, Migration, now

LOG = logging.getLogger(__name__)

#: Who asks, as the history has it: Nova's name of the setting.
REQUESTED_BY = "resize_confirm_window"
#: Seconds that an agent has to answer.
AGENT_TIMEOUT_S = 5.0
#: Kind of the event that tells why a migration was not confirmed.
NOT_CONFIRMED = "not-confirmed"


class ConfirmWindow:
    """Confirms the migrations to *host* that have waited for *window_s* seconds; for 0 none."""

    def __init__(
        self, database: Database, board: Board, hypervisor: Hypervisor, host: str, window_s: float
    ) -> None:
        self._database = database
        self._board = board
        self._hypervisor = hypervisor
        self._host = host
        self._window = datetime.timedelta(seconds=window_s)

    def run(self) -> list[str]:
        """Look once; return the migrations whose confirmation was asked for."""
        return (
            [migration.uuid for migration in self._due() if self._confirm(migration)] if self._window else []
        )

    def _due(self) -> list[Migration]:
        with self._database.reading() as session:
            return list(
                session.scalars(
                    select(Migration)
                    .join(Instance, Instance.uuid == Migration.instance_uuid)
                    .where(
                        instances.UNCONFIRMED,
                        Migration.dest_compute == self._host,
                        Migration.finished_at < now() - self._window,
                        Instance.host == self._host,
                        Instance.vm_state == "resized",
                        Instance.task_state.is_(None),
                    )
                    .order_by(Migration.finished_at)
                )
            )

    def _confirm(self, migration: Migration) -> bool:
        try:
            if problem := self._illness(migration):
                self._tell(migration, problem)
                return False
            server = migration.instance_uuid
            resized.confirm(self._database, self._board, server, requested_by=REQUESTED_BY)
        except ServerUnreachable:
            raise
        except HostlerError as error:
            self._tell(migration, str(error))
            return False
        return True

    def _illness(self, migration: Migration) -> str:
        """Return, as a sentence, why the guest is not well; nothing if it is, or was off when it moved."""
        if migration.old_vm_state != "active":
            return ""
        state = self._hypervisor.power_state(migration.instance_uuid)
        if state is not PowerState.RUNNING:
            return f"the guest ran before it moved, and is {state}"
        if self._hypervisor.agent_answers(migration.instance_uuid, AGENT_TIMEOUT_S) is False:
            return f"the guest's agent has not answered for {AGENT_TIMEOUT_S:g} s"
        return ""

    def _tell(self, migration: Migration, problem: str) -> None:
        """Say why it is not confirmed: once, until the reason is another one."""
        text = f"not confirmed by itself: {problem}"
        with self._database.transaction() as session:
            told = [event for event in moves.events(session, migration.uuid) if event.kind == NOT_CONFIRMED]
            if told and told[-1].text == text:
                return
            fence.add_event(session, migration.uuid, self._host, NOT_CONFIRMED, text)
        LOG.warning("migration %s of %s is %s", migration.uuid, migration.instance_name, text)
