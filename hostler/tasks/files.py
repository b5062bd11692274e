"""The server's files where it has left: set aside, so that nothing starts from them by accident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hostler.errors import HostlerError, MigrationError, MigrationPreCheckError, Park
from hostler.tasks.base import DEST, SOURCE, HostTask, Leg, retry_once_mended
from hostler.tasks.domain import refuse_active, refuse_old_guest, remove_state
from hostler.tasks.shared_storage import moving_units, own_units

#: A proof that the guest is well on the destination is good for so long.
PROOF_LIFETIME = timedelta(minutes=10)
#: The hosts' clocks may differ by this much.
CLOCK_SKEW = timedelta(minutes=1)


class RenameInstanceDir(HostTask):
    """Set the server's files aside: its directory, or each file of a flat pool.

    Reverts by: putting each of them back under its name.
    """

    where = SOURCE

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Rename each unit that is the server's alone; what others may use stays where it is."""
        refuse_active(leg)
        journal = self.journal(leg)
        for number, unit in enumerate(own_units(leg, inventory)):
            journal.intend(str(number), path=unit.path)
            leg.drivers.files.set_aside(unit, leg.migration.uuid)
            journal.done(str(number))

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Put back what was set aside, the last one first."""
        journal = self.journal(leg)
        for number, unit in reversed(list(enumerate(own_units(leg, inventory)))):
            if journal.get(str(number)):
                leg.drivers.files.put_back(unit, leg.migration.uuid)
                journal.undone(str(number))


class SetGuestAside(HostTask):
    """Take the server's files out of their places on the destination, and keep them.

    Reverts by: putting each of them back into its place.
    """

    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Take out what this migration has placed; what others may use stays where it is."""
        refuse_active(leg)
        files, facts = leg.drivers.files, (leg.migration.instance, leg.migration.uuid)
        journal = self.journal(leg)
        if strangers := files.strangers(own_units(leg, inventory), *facts):
            raise MigrationError(f"{leg.host}: {'; '.join(strangers)}")
        for number, unit in enumerate(own_units(leg, inventory)):
            journal.intend(str(number), path=unit.path)
            files.unplace(unit, *facts)
            journal.done(str(number))

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Put back what was taken out, the last one first."""
        journal = self.journal(leg)
        for number, unit in reversed(list(enumerate(own_units(leg, inventory)))):
            if journal.get(str(number)):
                leg.drivers.files.place(unit, leg.migration.instance, leg.migration.uuid)
                journal.undone(str(number))


class RemoveSetAside(HostTask):
    """Remove for good what was set aside on the source, and see it gone.

    It begins only while the destination's proof is fresh: that disk may have died since.

    Reverts by: nothing; once it has begun, the destination has the only copy.
    """

    where = SOURCE
    point_of_no_return = True

    def execute(self, leg: Leg, inventory: dict[str, Any], proven_at: str) -> None:
        """Remove the set-aside files and the copy of the definition; both carry this migration's uuid."""
        journal = self.journal(leg)
        if journal.get("removal") is None:
            refuse_old_guest(leg)
            _refuse_old_proof(leg, proven_at)
            journal.intend("removal")
        try:
            for unit in own_units(leg, inventory):
                leg.drivers.files.remove_aside(unit, leg.migration.uuid)
            remove_state(leg)
            _tell_free(leg, inventory)
        except (HostlerError, OSError) as error:
            reason = f"the set-aside files on {leg.host} could not all be removed: {error}"
            raise Park(reason, [retry_once_mended(leg, error)]) from error
        journal.done("removal")

    def revert(self, leg: Leg, **_: Any) -> None:
        """See that it never began."""
        if self.journal(leg).get("removal"):
            commands = [f"hostler migration retry {leg.migration.uuid}"]
            raise Park("the set-aside files are being removed; that is not undone", commands)


class SettleFiles(HostTask):
    """Remove the emptied part directories and the manifests of the destination: nothing goes back any more.

    Reverts by: nothing; they hold nothing.
    """

    where = DEST
    forward_only = True

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Remove them; nothing if they are gone."""
        units = moving_units(leg, inventory)
        leg.drivers.files.settle(units, leg.migration.instance, leg.migration.uuid)
        leg.drivers.receiver.forget(leg.migration.uuid)


def _tell_free(leg: Leg, inventory: dict[str, Any]) -> None:
    given = [unit.path for unit in own_units(leg, inventory) if unit.given]
    for path in given:
        with leg.records.transaction() as session:
            leg.records.note(session, "freed", f"{path} on {leg.host} is free; what was on it still is")


def _refuse_old_proof(leg: Leg, proven_at: str) -> None:
    age = datetime.now(UTC) - datetime.fromisoformat(proven_at)
    if not -CLOCK_SKEW <= age <= PROOF_LIFETIME:
        problem = f"{leg.migration.dest} was last seen to have the server {age} ago: confirm again"
        raise MigrationPreCheckError([problem], host=leg.host)
