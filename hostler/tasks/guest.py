"""The guest on the destination: created, handed over, started, and later confirmed."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from hostler.drivers.hypervisor.domain_xml import state_paths
from hostler.errors import (
    GuestStartError,
    HandOverRefused,
    InstanceInvalidState,
    MigrationError,
    MigrationPreCheckError,
    Park,
)
from hostler.objects import Inventory, PowerState, Snapshot
from hostler.records import instances, moves, quotas
from hostler.records.models import Instance, Migration
from hostler.tasks import plugging
from hostler.tasks.base import DEST, HostTask, Leg
from hostler.tasks.checks import kept_for_the_way_back, need_of
from hostler.tasks.ports import networks_of
from hostler.tasks.sizes import as_resized
from hostler.tasks.volumes import volumes_of

#: Tries of a step behind the hand-over before an operator is asked.
START_ATTEMPTS = 3
RETRY_PAUSE_S = 2.0


class FinishMigration(HostTask):
    """Create the guest on the destination, paused and transient: it executes nothing, and a power cut erases it.

    Where Neutron says when ports are plugged in, that is waited for: *vif_plugging_timeout*.

    Reverts by: ending that guest, known as ours by its metadata, and its definition if it has got one; the UEFI
    variables and the TPM state that it was given here, where none had come along.
    """

    touches_domain = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Create it from the source's definition, with this host's networks and our mark."""
        paths = state_paths(Inventory.from_dict(inventory).domain)
        self.journal(leg).intend("made", paths=leg.drivers.files.free(paths))
        plugging.expect(leg, inventory)
        leg.drivers.hypervisor.create_paused(_definition(leg, inventory))
        plugging.wait(leg, inventory)

    def revert(self, leg: Leg, **_: Any) -> None:
        """End it, and see that nothing of it runs."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        if hypervisor.exists(uuid):
            if hypervisor.describe(uuid).migration != leg.migration.uuid:
                return
            hypervisor.destroy(uuid)
            if not hypervisor.wait_until_off(uuid, leg.timeouts.guest_start_s):
                raise MigrationError(f"the guest {uuid} on {leg.host} does not end")
            # Defined only if an operator took the server back from a host that was down behind the hand-over.
            hypervisor.undefine(uuid)
        journal = self.journal(leg)
        if made := journal.get("made"):
            leg.drivers.files.remove_made(made.data["paths"])
            journal.undone("made")
        plugging.clear(leg)


class HandOver(HostTask):
    """Make the destination the server's host: one transaction, after which there is no way back.

    Reverts by: nothing; before its transaction nothing was changed, and behind it the flow only goes forward.
    """

    where = DEST
    point_of_no_return = True
    undone_anywhere = True

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Change the records if they are as this migration left them; asked again, see that it was done."""
        with leg.records.transaction() as session:
            instance = instances.get(session, leg.migration.instance)
            # Held: a wish to cancel that comes now waits, and finds the hand-over done.
            migration = moves.get(session, leg.migration.uuid, hold=True)
            if _handed_over(instance, migration):
                return
            self._refuse_unexpected(instance, migration)
            kept = kept_for_the_way_back(leg, Inventory.from_dict(inventory))
            # It locks the hosts, and comes first: on MariaDB whoever changes a server's host shares the lock of that
            # host already, and of two who do neither would get it alone.
            leg.drivers.claims.swap(
                session, migration.uuid, migration.dest_compute, migration.source_compute, kept
            )
            instances.save(
                session,
                instance.uuid,
                expected_task_state=["resize_finish"],
                host=migration.dest_compute,
                vm_state="resized",
                task_state=None,
                **_new_size(leg, Inventory.from_dict(inventory)),
            )
            moves.save(session, migration.uuid, expected_status=["post-migrating"], status="finished")
            quotas.commit(session, migration.uuid)
            leg.records.note(session, "handed-over", f"{migration.dest_compute} has the server from here on")

    def revert(self, leg: Leg, **_: Any) -> None:
        """See that it was not done."""
        with leg.records.transaction() as session:
            instance = instances.get(session, leg.migration.instance)
            if _handed_over(instance, moves.get(session, leg.migration.uuid)):
                commands = [f"hostler migration retry {leg.migration.uuid}"]
                raise Park("the server was handed over already; what came before is not undone", commands)

    @staticmethod
    def _refuse_unexpected(instance: Instance, migration: Migration) -> None:
        reasons = {
            f"its host is {instance.host}": instance.host != migration.source_compute,
            f"its task state is {instance.task_state}": instance.task_state != "resize_finish",
            f"its migration is {migration.status}": migration.status != "post-migrating",
            f"it was to be cancelled: {migration.cancel_reason}": migration.cancel_reason is not None,
        }
        found = [reason for reason, holds in reasons.items() if holds]
        if found:
            raise HandOverRefused(instance=instance.uuid, reason="; ".join(found))


class StartGuest(HostTask):
    """Define the guest on the destination, and let it run if it ran before.

    Autostart stays off until the migration is confirmed; after a reboot the worker starts it.

    Reverts by: nothing; the destination has the server now.
    """

    touches_domain = True
    where = DEST
    forward_only = True

    def execute(self, leg: Leg, inventory: dict[str, Any], was_running: bool) -> None:
        """Try a few times; then an operator is asked."""
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start(leg, inventory, was_running)
                break
            except (GuestStartError, MigrationError):
                if attempt == START_ATTEMPTS:
                    raise
                leg.pause(RETRY_PAUSE_S)
        with leg.records.transaction() as session:
            power_state = PowerState.RUNNING if was_running else PowerState.SHUTDOWN
            instances.save(session, leg.migration.instance, power_state=power_state)

    @staticmethod
    def _start(leg: Leg, inventory: dict[str, Any], was_running: bool) -> None:
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        if (
            was_running and not hypervisor.power_state(uuid).active
        ):  # this host has rebooted since it created the guest
            volumes = Inventory.from_dict(inventory).domain.volumes
            leg.drivers.volumes.restore(leg.records, uuid, volumes)
        hypervisor.define(_definition(leg, inventory), _snapshots(leg, inventory))
        if not was_running:
            hypervisor.destroy(uuid)
            return
        with leg.records.transaction():
            pass  # fenced: a worker that was frozen until now may have been given up, and the guest run elsewhere
        if not hypervisor.power_state(uuid).active:
            hypervisor.start(uuid)
        hypervisor.resume(uuid)
        deadline = time.monotonic() + leg.timeouts.guest_start_s
        while hypervisor.power_state(uuid) is not PowerState.RUNNING:
            if time.monotonic() > deadline:
                raise GuestStartError(instance=uuid, host=leg.host, reason="it does not run")
            leg.pause(0.2)


class ProveGuest(HostTask):
    """See that the destination has the server: defined, its files there, running if it should be.

    Reverts by: nothing; it only reads.
    """

    where = DEST
    default_provides = "proven_at"

    def execute(self, leg: Leg, inventory: dict[str, Any], was_running: bool) -> str:
        """Return when it was seen: :data:`hostler.tasks.files.PROOF_LIFETIME` says how long that is good for."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        if not hypervisor.exists(uuid) or not hypervisor.describe(uuid).persistent:
            problem = f"server {leg.migration.name!r} is not defined here"
            raise MigrationPreCheckError([problem], host=leg.host)
        problems = leg.drivers.files.absent(Inventory.from_dict(inventory).units)
        if problems:
            raise MigrationPreCheckError(problems, host=leg.host)
        state = hypervisor.power_state(uuid)
        if was_running and state is not PowerState.RUNNING:
            raise InstanceInvalidState(
                server=leg.migration.name,
                state=str(state),
                method="confirm",
                allowed="running, as it was before it moved",
                hint=f"on {leg.host}: virsh start {uuid}; see that it is well, and confirm again",
            )
        return datetime.now(UTC).isoformat()


class SettleGuest(HostTask):
    """Make the server an ordinary one of the destination: mark off, autostart as it was, states final.

    Reverts by: nothing; the migration is confirmed.
    """

    where = DEST
    forward_only = True

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Settle it; asked again, nothing changes."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        domain = hypervisor.describe(uuid)
        hypervisor.remove_mark(uuid, leg.migration.uuid)
        hypervisor.set_autostart(uuid, Inventory.from_dict(inventory).domain.autostart)
        leg.drivers.ports.settle(leg.records, uuid, leg.host)
        with leg.records.transaction() as session:
            _confirm(session, leg, domain.power_state)


def _confirm(session: Session, leg: Leg, power_state: PowerState) -> None:
    vm_state = instances.vm_state_of(power_state)
    moves.save(session, leg.migration.uuid, status="confirmed")
    instances.save(
        session, leg.migration.instance, vm_state=vm_state, power_state=power_state, task_state=None
    )


def _new_size(leg: Leg, inventory: Inventory) -> dict[str, Any]:
    """Return what of the server's record is another after a resize."""
    flavor = leg.migration.new_flavor
    if flavor is None:
        return {}
    need = need_of(as_resized(leg.drivers.hypervisor, inventory, flavor))
    return {"flavor_id": flavor.id, **dataclasses.asdict(need)}


def _handed_over(instance: Instance, migration: Migration) -> bool:
    return instance.host == migration.dest_compute and migration.status == "finished"


def _snapshots(leg: Leg, inventory: dict[str, Any]) -> list[Snapshot]:
    """Return the snapshots, each with the definition it would bring back as this host names networks and volumes."""
    domain = Inventory.from_dict(inventory).domain
    mapping, volumes = networks_of(leg, domain.ports), volumes_of(leg, domain.volumes)
    relocate = leg.drivers.hypervisor.relocate
    return [dataclasses.replace(one, xml=relocate(one.xml, mapping, volumes)) for one in domain.snapshots]


def _definition(leg: Leg, inventory: dict[str, Any]) -> str:
    """Return the source's definition with its new size, with this host's networks, volumes and CPUs, with our mark."""
    hypervisor = leg.drivers.hypervisor
    domain = as_resized(hypervisor, Inventory.from_dict(inventory), leg.migration.new_flavor).domain
    xml = hypervisor.relocate(domain.xml, networks_of(leg, domain.ports), volumes_of(leg, domain.volumes))
    if placement := leg.drivers.claims.placement(leg.records, leg.host):
        xml = hypervisor.pin(xml, placement)
    return hypervisor.mark(xml, leg.migration.uuid)
