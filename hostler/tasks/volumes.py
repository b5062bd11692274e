"""Disks that are not files of a host: let go on the one, taken on the other, never copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hostler.objects import Inventory, Volume
from hostler.records.fence import FencedRecords
from hostler.tasks.base import DEST, SOURCE, HostTask, Leg
from hostler.tasks.domain import refuse_active


class ReserveVolumes(HostTask):
    """Keep a place of every volume for the migration: one that cannot be moved is a refusal, the guest still runs.

    A server that is resized where it is keeps its volumes as they are.

    Reverts by: giving up each place that was kept.
    """

    guards_data = False
    undone_anywhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Reserve them; each is written down before and after."""
        if leg.migration.same_host:
            return
        _each(self, leg, inventory, leg.drivers.volumes.reserve)

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Give up what was reserved."""
        _put_back(self, leg, inventory, leg.drivers.volumes.release)


class DisconnectVolumes(HostTask):
    """Let go of every volume on the source, one by one.

    Reverts by: connecting exactly those again, the last one first.
    """

    guards_data = False
    where = SOURCE

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Let go of them; each is written down before and after."""
        refuse_active(leg)
        _each(self, leg, inventory, leg.drivers.volumes.disconnect)

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Connect what was let go of."""
        _put_back(self, leg, inventory, partial(leg.drivers.volumes.connect, undoing=True))


class ReleaseVolumes(DisconnectVolumes):
    """Let go of every volume on the destination, before the server goes back.

    Reverts by: connecting exactly those again, the last one first.
    """

    where = DEST


class ConnectVolumes(HostTask):
    """Make every volume usable on the destination.

    Reverts by: letting go of those that were connected, the last one first.
    """

    guards_data = False
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Connect them; each is written down before and after."""
        _each(self, leg, inventory, leg.drivers.volumes.connect)

    def revert(self, leg: Leg, inventory: dict[str, Any], **_: Any) -> None:
        """Let go of what was connected."""
        _put_back(self, leg, inventory, partial(leg.drivers.volumes.disconnect, undoing=True))


def volumes_of(leg: Leg, volumes: Sequence[Volume]) -> Mapping[str, Volume]:
    """Return what network disks open on this host, where that differs, by the guest's names for them."""
    return leg.drivers.volumes.mapping(leg.records, volumes)


def _each(
    step: HostTask, leg: Leg, inventory: dict[str, Any], call: Callable[[FencedRecords, str, Volume], None]
) -> None:
    journal = step.journal(leg)
    for volume in _volumes(inventory):
        journal.intend(volume.target)
        call(leg.records, leg.migration.instance, volume)
        journal.done(volume.target)


def _put_back(
    step: HostTask, leg: Leg, inventory: dict[str, Any], call: Callable[[FencedRecords, str, Volume], None]
) -> None:
    journal = step.journal(leg)
    for volume in reversed(_volumes(inventory)):
        if journal.get(volume.target):
            call(leg.records, leg.migration.instance, volume)
            journal.undone(volume.target)


def _volumes(inventory: dict[str, Any]) -> list[Volume]:
    return Inventory.from_dict(inventory).domain.volumes
