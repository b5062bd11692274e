"""``resize_confirm_window``: a migration that nobody confirms is confirmed by its destination, if the guest is well."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kazoo.exceptions import KazooException
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
        self._stopping = threading.Event()

    @contextmanager
    def at_work(self, interval_s: float) -> Iterator[None]:
        """Look every *interval_s* seconds while the block runs.

        In a thread of its own: a guest whose agent does not answer holds up no job. It ends with the block, and
        waits for no more than the agent that it asks.
        """
        if not self._window:
            yield
            return
        thread = threading.Thread(target=self._keep_looking, args=(interval_s,), name="confirm", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(AGENT_TIMEOUT_S + 1)
            if thread.is_alive():
                LOG.warning("a guest's agent is still asked; nothing comes of it")

    def run(self) -> list[str]:
        """Look once; return the migrations whose confirmation was asked for."""
        asked: list[str] = []
        for migration in self._due() if self._window else ():
            if self._stopping.is_set():
                break
            if self._confirm(migration):
                asked.append(migration.uuid)
        return asked

    def _keep_looking(self, interval_s: float) -> None:
        while not self._stopping.is_set():
            try:
                self.run()
            except (ServerUnreachable, KazooException) as error:
                reason = str(error) or type(error).__name__
                LOG.warning("what waits to be confirmed is looked at again in %.0f s: %s", interval_s, reason)
            except Exception:
                LOG.exception("what waits to be confirmed cannot be looked at; it is tried again later")
            self._stopping.wait(interval_s)

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
            if self._stopping.is_set():
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
