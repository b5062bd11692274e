"""The guest's power: off before it moves, and before it goes back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hostler.errors import InstancePowerOffFailure
from hostler.objects import PowerState, Volume
from hostler.tasks.base import DEST, HostTask, Leg
from hostler.tasks.domain import define_as, definition_of

#: Seconds that a guest whose plug was pulled has to be gone.
DESTROY_TIMEOUT_S = 30.0


class PowerOff(HostTask):
    """Shut the guest down cleanly; pull the plug after *shutdown_timeout* seconds.

    Autostart goes off first: a source that reboots must not start the guest.

    Reverts by: starting the guest again if it ran before, and switching autostart back on.
    """

    touches_domain = True
    default_provides = "was_running"

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> bool:
        """Return whether the guest ran before the first press of the button."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        journal = self.journal(leg)
        running = hypervisor.power_state(uuid).active
        domain = hypervisor.describe(uuid)
        journal.intend("power", was_running=running, autostart=domain.autostart, **definition_of(domain))
        entry = journal.get("power")
        hypervisor.set_autostart(uuid, False)
        if hypervisor.power_state(uuid).active:
            self._shut_down(leg)
        journal.done("power")
        return bool(entry and entry.data["was_running"])

    def revert(self, leg: Leg, **_: Any) -> None:
        """Undo it, whether the guest is still on its way down, off, or never noticed."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        journal = self.journal(leg)
        entry = journal.get("power")
        if entry is None:
            return
        self._see_defined(leg, entry.data)
        if entry.data["was_running"]:
            if entry.state == "intent":
                # A guest that was told to shut down does so even if nobody wants it any more.
                hypervisor.wait_until_off(uuid, leg.timeouts.shutdown_s)
            if not hypervisor.power_state(uuid).active:
                self._start(leg)
            elif hypervisor.power_state(uuid) is PowerState.PAUSED:
                hypervisor.resume(uuid)
        hypervisor.set_autostart(uuid, bool(entry.data["autostart"]))
        journal.undone("power")

    @staticmethod
    def _start(leg: Leg) -> None:
        """Start it, with what of its volumes a reboot has taken from this host."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        domain = hypervisor.describe(uuid)
        if leg.drivers.volumes.restore(leg.records, uuid, [*map(Volume.of, domain.disks)]):
            define_as(leg, definition_of(domain))
        hypervisor.start(uuid)

    @staticmethod
    def _see_defined(leg: Leg, before: Mapping[str, Any]) -> None:
        """Define a guest again that somebody has undefined meanwhile: its power went with its definition."""
        if "xml" in before and not leg.drivers.hypervisor.exists(leg.migration.instance):
            define_as(leg, before)
            with leg.records.transaction() as session:
                said = f"somebody had undefined {leg.migration.name} on {leg.host}: it was defined again"
                leg.records.note(session, "defined-again", said)

    def _shut_down(self, leg: Leg) -> None:
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        deadline = time.monotonic() + leg.timeouts.shutdown_s
        while (left := deadline - time.monotonic()) > 0:
            leg.checkpoint()
            # A press of the power button before the guest listens is lost, so press again.
            hypervisor.shutdown(uuid)
            if hypervisor.wait_until_off(uuid, min(leg.timeouts.shutdown_retry_s, left)):
                return
        hypervisor.destroy(uuid)
        if not hypervisor.wait_until_off(uuid, DESTROY_TIMEOUT_S):
            raise InstancePowerOffFailure(
                instance=uuid, reason="its process did not end when its plug was pulled"
            )


class StopGuest(PowerOff):
    """Shut the guest down cleanly on the destination, before the server goes back.

    Reverts by: starting the guest again if it ran before.
    """

    where = DEST

    def __init__(self) -> None:
        super().__init__(provides=())

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> bool:
        """Shut it down, and return whether it ran; nothing if there is no guest any more."""
        hypervisor, uuid = leg.drivers.hypervisor, leg.migration.instance
        if not hypervisor.exists(uuid):
            return False
        domain = hypervisor.describe(uuid)
        if not domain.persistent:
            # The migration was parked before it was defined: an undo could not start what a power-off erases.
            hypervisor.define(domain.xml, domain.snapshots)
        if domain.power_state is PowerState.PAUSED:
            before = definition_of(domain)
            self.journal(leg).intend("power", was_running=True, autostart=domain.autostart, **before)
            hypervisor.destroy(uuid)  # a paused guest hears no power button
        return super().execute(leg, inventory)
