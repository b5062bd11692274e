"""After a reboot of the host: the guests that wait to be confirmed have autostart off, and are started here."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Exists, and_, or_, select

from hostler.drivers.hypervisor import Hypervisor
from hostler.errors import HostlerError
from hostler.objects import PowerState
from hostler.records.database import Database
from hostler.records.models import Instance, JournalEntry, Migration

LOG = logging.getLogger(__name__)

#: A file on a file system that a reboot empties: where it stands, the host has not rebooted since.
STAMP = "booted"


def restart_unconfirmed(database: Database, hypervisor: Hypervisor, host: str, run_path: str) -> list[str]:
    """Start the guests that ran here before the host rebooted and whose migration is not confirmed.

    One that goes back to its source is left to its flow from the moment on at which that shuts it down.

    Returns their UUIDs. Called before adoption, which would write down that they are off.
    """
    stamp = Path(run_path, STAMP)
    if stamp.exists():
        return []
    started = [uuid for uuid in _ran_here(database, host) if _start(hypervisor, uuid)]
    stamp.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp.touch()
    return started


def _ran_here(database: Database, host: str) -> list[str]:
    with database.reading() as session:
        return list(
            session.scalars(
                select(Instance.uuid)
                .join(Migration, Migration.instance_uuid == Instance.uuid)
                .where(
                    Instance.host == host,
                    Migration.dest_compute == host,
                    Instance.vm_state == "resized",
                    Instance.power_state == PowerState.RUNNING,
                    or_(
                        Migration.status.in_(("finished", "confirming")),
                        and_(Migration.status == "reverting", ~_is_going_back()),
                    ),
                )
            )
        )


def _is_going_back() -> Exists:
    """Whether the guest was told to shut down, to go back to the source, and not to run on since."""
    told = select(JournalEntry.key).where(
        JournalEntry.migration_uuid == Migration.uuid,
        JournalEntry.task == "StopGuest",
        JournalEntry.state != "undone",
    )
    return told.exists()


def _start(hypervisor: Hypervisor, uuid: str) -> bool:
    try:
        if not hypervisor.exists(uuid) or hypervisor.power_state(uuid).active:
            return False
        hypervisor.start(uuid)
    except HostlerError as error:
        LOG.error("server %s ran before this host rebooted and cannot be started: %s", uuid, error)
        return False
    LOG.info("server %s ran before this host rebooted, and was started", uuid)
    return True
