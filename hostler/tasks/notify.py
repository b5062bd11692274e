"""What the world is told, under Nova's legacy names."""

from __future__ import annotations

from typing import Any

from hostler.tasks.base import DEST, HostTask, Leg


class NotifyUsageExists(HostTask):
    """Tell the listeners what the server uses before it moves; this never fails a migration.

    Reverts by: nothing; the usage that was told was true.
    """

    guards_data = False
    undone_anywhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Send ``compute.instance.exists``."""
        domain = inventory["domain"]
        usage = {"vcpus": domain["vcpus"], "memory_mb": domain["memory_mb"]}
        leg.drivers.notifications.notify("compute.instance.exists", payload(leg) | usage)


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
        leg.drivers.notifications.notify(f"compute.instance.{self.phase}.{self.moment}", payload(leg))

    def revert(self, leg: Leg, flow_failures: dict[str, Any], **_: Any) -> None:
        """Send the phase's ``.error`` with the causes."""
        if self.moment == "start":
            causes = "; ".join(failure.exception_str for failure in flow_failures.values())
            event = f"compute.instance.{self.phase}.error"
            leg.drivers.notifications.notify(event, payload(leg) | {"reason": causes}, error=True)


def payload(leg: Leg) -> dict[str, Any]:
    """Return the fields that every event of a migration has."""
    migration = leg.migration
    return {
        "instance_id": migration.instance,
        "display_name": migration.name,
        "host": leg.host,
        "migration_uuid": migration.uuid,
        "migration_type": migration.migration_type,
        "source_compute": migration.source,
        "dest_compute": migration.dest,
        "old_vm_state": migration.old_vm_state,
        "request_id": migration.request_id,
    }
