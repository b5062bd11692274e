"""The server goes back to the source: the turning point of the way back, and its end."""

from __future__ import annotations

from typing import Any

from hostler.errors import HandOverRefused, Park
from hostler.objects import Flavor, Inventory
from hostler.records import instances, moves, quotas
from hostler.records.hosts import Amounts
from hostler.records.models import Instance, Migration
from hostler.tasks.base import SOURCE, HostTask, Leg
from hostler.tasks.checks import disk_need


class HandBack(HostTask):
    """Make the source the server's host again: one transaction, after which the way back is only finished.

    Reverts by: nothing; before its transaction nothing was changed, and behind it the flow only goes forward.
    """

    where = SOURCE
    point_of_no_return = True
    undone_anywhere = True

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Change the records if they are as the request left them; asked again, see that it was done."""
        with leg.records.transaction() as session:
            migration = moves.get(session, leg.migration.uuid, hold=True)
            instance = instances.get(session, leg.migration.instance)
            if handed_back(instance):
                return
            _refuse_unexpected(instance, migration)
            need = Amounts(instance.vcpus, instance.memory_mb, instance.disk_bytes)
            # What the destination still has of it takes room there until it is removed. Before the server's own row, as
            # at the hand-over.
            leg.drivers.claims.swap(
                session, migration.uuid, migration.source_compute, migration.dest_compute, need
            )
            instances.save(
                session,
                instance.uuid,
                expected_task_state=["resize_reverting"],
                host=migration.source_compute,
                vm_state=leg.migration.old_vm_state,
                **_as_it_was(inventory, migration),
            )
            quotas.commit(session, migration.uuid)
            leg.records.note(session, "handed-back", f"{migration.source_compute} has the server again")

    def revert(self, leg: Leg, **_: Any) -> None:
        """See that it was not done."""
        with leg.records.transaction() as session:
            if handed_back(instances.get(session, leg.migration.instance)):
                commands = [f"hostler migration retry {leg.migration.uuid}"]
                raise Park("the server was handed back already; what came before is not undone", commands)


class FinishRevert(HostTask):
    """Say that the server is an ordinary one of the source again.

    Reverts by: nothing; the source has the server again.
    """

    where = SOURCE
    forward_only = True

    def execute(self, leg: Leg) -> None:
        """Write the final states; asked again, nothing changes."""
        power_state = leg.drivers.hypervisor.power_state(leg.migration.instance)
        with leg.records.transaction() as session:
            moves.save(session, leg.migration.uuid, status="reverted")
            instances.save(
                session,
                leg.migration.instance,
                vm_state=instances.vm_state_of(power_state),
                power_state=power_state,
                task_state=None,
            )


def handed_back(instance: Instance) -> bool:
    """Tell whether the server is the source's again. Its host would not tell: both may be one."""
    return instance.vm_state != "resized"


def _as_it_was(inventory: dict[str, Any], migration: Migration) -> dict[str, Any]:
    """Return what the server's record said of its size before it moved."""
    before = Inventory.from_dict(inventory)
    domain = before.domain
    size = {"vcpus": domain.vcpus, "memory_mb": domain.memory_mb, "disk_bytes": disk_need(before)}
    if migration.old_flavor is None:
        return size
    return size | {"flavor_id": Flavor.from_dict(migration.old_flavor).id}


def _refuse_unexpected(instance: Instance, migration: Migration) -> None:
    reasons = {
        f"its host is {instance.host}": instance.host != migration.dest_compute,
        f"its task state is {instance.task_state}": instance.task_state != "resize_reverting",
        f"its migration is {migration.status}": migration.status != "reverting",
        f"it was to be cancelled: {migration.cancel_reason}": migration.cancel_reason is not None,
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise HandOverRefused(instance=instance.uuid, reason="; ".join(found))
