"""Storage that both hosts have: proven from both ends before anything is touched, and what stays there.

The source leaves a token in each directory that the server has files in; the destination looks for it, and leaves one
of its own; the source looks for that. A directory in which each has read what the other wrote is shared. One in which
neither has is not. One in which only one of them has (a mirror that lags, a mount that is read-only) is refused.

What lies in a shared directory is used where it is: not set aside, not copied, never removed. Only a unit of which a
disk gets another size is: it is set aside, and its copy takes its name, as on one host, so that there is a way back.
"""

from __future__ import annotations

import dataclasses
import logging
import posixpath
from collections.abc import Iterable, Sequence
from typing import Any

from hostler.errors import DestinationUnusable, InvalidSharedStorage, MigrationError, MigrationPreCheckError
from hostler.objects import Inventory, Unit, UnitKind
from hostler.records import moves
from hostler.tasks.base import DEST, SOURCE, HostTask, Leg

LOG = logging.getLogger(__name__)

#: Key of the verdict among what AnswerProof has written down, beside the directories.
_SHARED = "shared"


class OfferProof(HostTask):
    """Leave a token beside the server's files, for the destination to find if it has the same storage.

    Reverts by: removing the tokens.
    """

    where = SOURCE
    default_provides = "offered"

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> dict[str, str]:
        """Return the tokens by directory; one in which only others' files lie may be read-only, and has none."""
        offered: dict[str, str] = {}
        if leg.migration.same_host:
            return offered
        journal = self.journal(leg)
        for directory, units in _by_directory(_whole(inventory).units).items():
            journal.intend(directory)
            try:
                offered[directory] = leg.drivers.files.write_token(directory, leg.migration.uuid, SOURCE)
            except MigrationError as error:
                if any(unit.kind is UnitKind.OWN for unit in units):
                    raise MigrationPreCheckError([str(error)], host=leg.host) from error
                LOG.info("no token is left in %s: %s", directory, error)
        return offered

    def revert(self, leg: Leg, **_: Any) -> None:
        """Remove what was, or may have been, written."""
        _remove_tokens(leg, self.name, SOURCE)


class AnswerProof(HostTask):
    """Look for the source's tokens, and leave one beside each place where one could be.

    Reverts by: removing its own tokens.
    """

    where = DEST
    elsewhere = True
    default_provides = "answered"

    def execute(self, leg: Leg, offered: dict[str, str]) -> dict[str, dict[str, Any]]:
        """Return by directory whether the source's token is *seen* there, and the *token* that was left."""
        journal = self.journal(leg)
        answered = {}
        for directory, token in offered.items():
            seen = leg.drivers.files.token(directory, leg.migration.uuid, SOURCE) == token
            journal.intend(directory)
            answered[directory] = {"seen": seen, "token": self._leave_token(leg, directory)}
        journal.done(_SHARED, directories=[one for one, answer in answered.items() if answer["seen"]])
        return answered

    def revert(self, leg: Leg, **_: Any) -> None:
        """Remove what was, or may have been, written. What was seen stays on record: other undos go by it."""
        _remove_tokens(leg, self.name, DEST)

    @staticmethod
    def _leave_token(leg: Leg, directory: str) -> str | None:
        try:
            return leg.drivers.files.write_token(directory, leg.migration.uuid, DEST)
        except DestinationUnusable as error:
            LOG.info("no token is left in %s: %s", directory, error)
            return None


class ProveShared(HostTask):
    """See from the other end, too, what storage is shared; what only one host sees of the other is refused.

    Reverts by: nothing; it only removes the tokens that have served.
    """

    where = SOURCE

    def execute(
        self,
        leg: Leg,
        inventory: dict[str, Any],
        offered: dict[str, str],
        answered: dict[str, dict[str, Any]],
    ) -> None:
        """Raise :class:`~hostler.errors.InvalidSharedStorage`, or write down what stays in place."""
        half = [
            path for path, answer in answered.items() if answer["seen"] is not self._sees(leg, path, answer)
        ]
        if half:
            raise InvalidSharedStorage(
                paths=", ".join(half), path=half[0], source=leg.host, dest=leg.migration.dest
            )
        for directory in offered:
            leg.drivers.files.remove_token(directory, leg.migration.uuid, SOURCE)
        if staying := staying_of(inventory_of(leg, inventory)):
            _note(leg, staying)

    @staticmethod
    def _sees(leg: Leg, directory: str, answer: dict[str, Any]) -> bool:
        token = answer["token"]
        return token is not None and leg.drivers.files.token(directory, leg.migration.uuid, DEST) == token


class ForgetProof(HostTask):
    """Remove the destination's tokens: they have served.

    Reverts by: nothing; they have served.
    """

    where = DEST
    guards_data = False

    def execute(self, leg: Leg) -> None:
        """Remove them; nothing if they are gone."""
        _remove_tokens(leg, AnswerProof.__name__, DEST)


def inventory_of(leg: Leg, inventory: dict[str, Any]) -> Inventory:
    """Return the inventory with what stays in place as such; of a flow without a proof nothing does."""
    whole = _whole(inventory)
    shared = _shared_directories(leg)
    changed = [change.path for change in whole.changes]
    units = [_as_proven(unit, shared, changed) for unit in whole.units]
    return dataclasses.replace(whole, units=units)


def own_units(leg: Leg, inventory: dict[str, Any]) -> list[Unit]:
    """Return the units that are the server's alone and move: they are set aside, and arrive."""
    return [unit for unit in inventory_of(leg, inventory).units if unit.kind is UnitKind.OWN]


def moving_units(leg: Leg, inventory: dict[str, Any]) -> list[Unit]:
    """Return all units but those that stay in place."""
    return [unit for unit in inventory_of(leg, inventory).units if unit.kind is not UnitKind.IN_PLACE]


def here(leg: Leg, units: Iterable[Unit]) -> set[str]:
    """Return the paths of *units* that move, and whose copies take their names on the very same storage."""
    shared = _shared_directories(leg)
    same_host = leg.migration.same_host
    own = [unit for unit in units if unit.kind is UnitKind.OWN]
    return {unit.path for unit in own if same_host or _is_within(unit, shared)}


def staying_of(inventory: Inventory) -> list[str]:
    """Return the paths of what is the server's alone and stays in place; what others may use has a digest."""
    return [unit.path for unit in inventory.units if unit.kind is UnitKind.IN_PLACE and unit.digest is None]


def goes_back_whole(inventory: dict[str, Any], report: dict[str, Any] | None) -> bool:
    """Tell whether going back drops nothing that the server has written: all that is its own stays in place.

    *report*: the migration's, as ProveShared has written it.
    """
    staying = (report or {}).get("in_place", [])
    return all(unit.path in staying for unit in _whole(inventory).units if unit.kind is UnitKind.OWN)


def _whole(inventory: dict[str, Any]) -> Inventory:
    # the source's report of a dry run is its inventory, and more
    return Inventory.from_dict(inventory.get("inventory", inventory))


def _shared_directories(leg: Leg) -> list[str]:
    entry = leg.records.journal(AnswerProof.__name__).all().get(_SHARED)
    return list(entry.data["directories"]) if entry else []


def _as_proven(unit: Unit, shared: Sequence[str], changed: Sequence[str]) -> Unit:
    resized = any(path == unit.path or path.startswith(f"{unit.path}/") for path in changed)
    if not _is_within(unit, shared) or resized:
        return unit
    return dataclasses.replace(unit, kind=UnitKind.IN_PLACE)


def _is_within(unit: Unit, directories: Sequence[str]) -> bool:
    """Whether it is a file or directory in one of them; a block device is in none, whatever its name is."""
    return unit.block is None and posixpath.dirname(unit.path) in directories


def _by_directory(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    found: dict[str, list[Unit]] = {}
    for unit in units:
        if unit.block is not None:
            continue
        found.setdefault(posixpath.dirname(unit.path), []).append(unit)
    return found


def _remove_tokens(leg: Leg, step: str, role: str) -> None:
    journal = leg.records.journal(step)
    for directory, entry in journal.all().items():
        if directory != _SHARED and entry.state != "undone":
            leg.drivers.files.remove_token(directory, leg.migration.uuid, role)
            journal.undone(directory)


def _note(leg: Leg, staying: list[str]) -> None:
    with leg.records.transaction() as session:
        report = moves.get(session, leg.migration.uuid).report or {}
        if "in_place" not in report:
            moves.save(session, leg.migration.uuid, report=report | {"in_place": staying})
            said = f"{', '.join(staying)}: stays in place, {leg.migration.dest} has the same storage"
            leg.records.note(session, "in-place", said)
