"""What the world is told, under Nova's legacy names."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from hostler.drivers.notifications import Message
from hostler.objects import Inventory
from hostler.records import moves
from hostler.records.models import Instance
from hostler.tasks.base import DEST, HostTask, Leg

GIB = 1 << 30


class NotifyUsageExists(HostTask):
    """Tell the listeners what the server uses before it moves; this never fails a migration.

    Reverts by: nothing; the usage that was told was true.
    """

    guards_data = False
    undone_anywhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Send ``compute.instance.exists``: what the domain has, and Nova's audit period, which is the month."""
        domain = Inventory.from_dict(inventory).domain
        at = datetime.now(UTC)
        month = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        usage = {
            "vcpus": domain.vcpus,
            "memory_mb": domain.memory_mb,
            "audit_period_beginning": _text(month),
            "audit_period_ending": _text(at),
        }
        tell(leg, "exists", usage)


class Notify(HostTask):
    """Tell the listeners that a phase begins or ends; this never fails a migration.

    Reverts by: telling them that the phase failed.
    """

    guards_data = False
    undone_anywhere = True

    def __init__(self, event: str, where: str) -> None:
        """*event* is Nova's name without its first two words: ``resize.prep.start``."""
        super().__init__(name=f"Notify {event}")
        self.where = where  # type: ignore[misc]
        self.phase, self.moment = event.rsplit(".", 1)
        self.does = f"Tell the listeners compute.instance.{event}; this never fails a migration."
        if self.moment == "end":
            self.undo = "nothing; the undo of the phase's start tells that it failed."

    def execute(self, leg: Leg) -> None:
        """Send the event."""
        tell(leg, f"{self.phase}.{self.moment}")

    def revert(self, leg: Leg, flow_failures: dict[str, Any], **_: Any) -> None:
        """Send the phase's ``.error`` with the causes."""
        if self.moment == "start":
            causes = "; ".join(failure.exception_str for failure in flow_failures.values())
            reason = {"reason": causes or _reason_on_record(leg)}
            tell(leg, f"{self.phase}.error", reason, priority="ERROR")


def tell(leg: Leg, event: str, more: dict[str, Any] | None = None, *, priority: str = "INFO") -> None:
    """Tell every driver ``compute.instance.<event>``; told again by the same flow, it has the same id."""
    event_type = f"compute.instance.{event}"
    message = Message(
        message_id=str(uuid.uuid5(uuid.UUID(leg.migration.flow), event_type)),
        publisher_id=f"hostler-worker:{leg.host}",
        event_type=event_type,
        priority=priority,
        timestamp=_text(datetime.now(UTC)),
        payload=_payload(leg) | (more or {}),
    )
    leg.drivers.notifications.tell(leg.records, message)


def _payload(leg: Leg) -> dict[str, Any]:
    """Return the fields that every event of a migration has; the server's are those of its record, if there is one."""
    migration = leg.migration
    with leg.records.reading() as session:
        instance = session.get(Instance, migration.instance)
    facts = {
        "instance_id": migration.instance,
        "display_name": migration.name,
        "migration_uuid": migration.uuid,
        "migration_type": migration.migration_type,
        "source_compute": migration.source,
        "dest_compute": migration.dest,
        "old_vm_state": migration.old_vm_state,
        "request_id": migration.request_id,
    }
    return facts if instance is None else facts | _usage(instance)


def _usage(instance: Instance) -> dict[str, Any]:
    """Return Nova's fields of a server, as far as its record has them."""
    return {
        "host": instance.host,
        "node": instance.host,
        "state": instance.vm_state,
        "state_description": instance.task_state or "",
        "vcpus": instance.vcpus,
        "memory_mb": instance.memory_mb,
        "disk_gb": -(-instance.disk_bytes // GIB),
        "created_at": _text(instance.created_at),
    }


def _reason_on_record(leg: Leg) -> str:
    """Return why a flow walks back none of whose steps has failed."""
    with leg.records.reading() as session:
        return moves.get(session, leg.migration.uuid).error or ""


def _text(at: datetime) -> str:
    """Return a time as Nova and oslo.messaging write it: UTC, no zone."""
    return str(at.replace(tzinfo=None))
