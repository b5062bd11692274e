"""Volumes of OpenStack's Cinder: a server has its volume by an attachment, which names one host.

An empty attachment is made before the guest is touched. It keeps the volume the server's when the source's attachment
goes, which is when the source has let go of it and not before; the destination's connector is put into it. The undo
keeps the place in the same way: a server always has an attachment. Which ones a migration has made is in the journal.

QEMU opens these volumes by itself, or the host has connected them, as its :mod:`.connector` does: before the guest has
them, and let go of before the attachment goes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hostler.drivers.cloud_failures import failing
from hostler.drivers.volumes import Astray, Volumes
from hostler.drivers.volumes.attachments import Attachment, VolumeService
from hostler.drivers.volumes.cinder_astray import strays
from hostler.drivers.volumes.cinder_journal import JOURNAL, entry_of, is_ours, key_of, own_of, stays
from hostler.drivers.volumes.cinder_rules import (
    CLIENT,
    is_cinders,
    opened,
    qemus_connector,
    reached,
    reasons,
    unmovable,
    unusable,
)
from hostler.drivers.volumes.connector import Connector, harmless
from hostler.drivers.volumes.network import called
from hostler.errors import (
    CloudServiceRefused,
    ForeignObject,
    Problem,
    VolumeNotMovable,
    VolumeUnreachable,
)
from hostler.objects import Disk, Domain, Volume
from hostler.records.fence import FencedRecords, Journal


class CinderVolumes:
    """The :class:`~hostler.drivers.volumes.Volumes` of Cinder.

    *local*: how this host reaches what QEMU opens. *connector*: connects what it does not. *host*: this one, at
    *address*. *names*: how hosts are called in Cinder's connectors whose name is another there.
    """

    def __init__(
        self,
        service: VolumeService,
        local: Volumes,
        connector: Connector,
        host: str,
        address: str,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._service = service
        self._local = local
        self._connector = connector
        self._host = host
        self._address = address
        self._names = dict(names or {})

    def recognise(self, domain: Domain) -> Domain:
        """Return *domain* with the disks among its volumes that Cinder has attached to its host."""
        attached = [disk for disk in domain.disks if is_cinders(disk) and self._has(domain.uuid, disk)]
        others = [disk for disk in domain.disks if disk not in attached]
        volumes = [*domain.volumes, *map(Volume.of, attached)]
        return dataclasses.replace(domain, disks=others, volumes=volumes)

    def destination_problems(self, domain: Domain) -> list[str]:
        """Return, as sentences, which volumes this host could not reach, or no host could take over."""
        return [*self._local.destination_problems(domain), *self._problems(domain)]

    def reserve(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Make an empty attachment beside the one by which the source has it."""
        if is_cinders(volume):
            with failing("Cinder"):
                self._intend(records, instance, volume)
                self._keep(records, instance, volume, self._mine(instance, volume))

    def release(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Drop the empty ones, if the server has another."""
        home, _ = records.ends()
        if key_of(volume, home) not in records.journal(JOURNAL).all():
            return
        mine = self._mine(instance, volume)
        for one in [one for one in mine if one.empty]:
            mine = self._drop(records, mine, one.id)

    def connect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """Put this host's connector into an empty attachment of the server."""
        if volume.path is None:
            self._local.connect(records, instance, volume)
        if is_cinders(volume) and not stays(records):
            with _manner(undoing):
                self._take(records, instance, volume, undoing=undoing)

    def disconnect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """See that no process of this host holds it, disconnect it, and drop the host's attachment."""
        if volume.path is None:
            self._local.disconnect(records, instance, volume)
        if is_cinders(volume) and not stays(records):
            with _manner(undoing):
                self._let_go(records, instance, volume)

    def restore(self, records: FencedRecords, instance: str, volumes: Sequence[Volume]) -> bool:
        """Connect again what this host had connected by this migration, and tell whether that was anything."""
        entries, lost = records.journal(JOURNAL).all(), list[Volume]()
        for volume in volumes:
            entry = entries.get(key_of(volume, self._host))
            if volume.path is not None and entry is not None and entry.state != "undone":
                lost.append(volume)
        for volume in lost:
            self.connect(records, instance, volume, undoing=True)
        return bool(lost)

    def mapping(self, records: FencedRecords, volumes: Sequence[Volume]) -> Mapping[str, Volume]:
        """Return what this host opens, where it is another target or device than the definition names."""
        entries, found = records.journal(JOURNAL).all(), dict[str, Volume]()
        for volume in filter(is_cinders, volumes):
            entry = entries.get(key_of(volume, self._host))
            if entry is not None and entry.state == "done" and {"name", "path"} & entry.data.keys():
                there = reached(volume, entry.data)
                found |= {volume.target: there} if there != volume else {}
        return found

    def astray(self, domain: Domain, host: str) -> list[Astray]:
        """Return which attachments of a server on *host* are of no use to it, or lead elsewhere."""
        return list(strays(self._service, domain, self._name(host)))

    # -- what cannot be moved -----------------------------------------------------------------------------

    def _problems(self, domain: Domain) -> Iterator[str]:
        for volume in filter(is_cinders, domain.volumes):
            try:
                with failing("Cinder"):
                    self._movable(domain.uuid, volume, self._host)
            except VolumeNotMovable as error:
                yield Problem.of(error)
        for disk in filter(is_cinders, domain.disks):
            if self._has(domain.uuid, disk):
                reason = "the host has connected it, and its own driver of volumes does not know"
                yield Problem.of(unmovable(disk, self._host, reason))

    def _has(self, instance: str, disk: Disk) -> bool:
        """Tell whether a disk of the host's is a volume that the server has."""
        with failing("Cinder"):
            found = self._service.volume(disk.serial or "")
        return bool(found is not None and found.of(instance))

    def _movable(self, instance: str, volume: Volume, host: str) -> Attachment:
        """Return by which attachment the server has it; :class:`VolumeNotMovable` if no host could take it over."""
        found = self._service.volume(volume.serial or "")
        if found is None:
            hint = "openstack volume list --all-projects"
            raise unmovable(volume, host, "Cinder has no such volume", hint)
        if speak := [reason for reason, holds in reasons(found, instance, volume).items() if holds]:
            raise unmovable(volume, host, "; ".join(speak))
        (own,) = found.of(instance)
        if reason := unusable(volume, own):
            raise unmovable(volume, host, reason, f"{CLIENT} show {own.id}")
        if volume.path is not None:
            kind = str(own.connection.get("driver_volume_type"))
            if reason := self._connector.problem(kind):
                raise unmovable(volume, host, reason)
        return own

    def _intend(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Write down by which attachment the source has it; what an earlier attempt wrote stands."""
        journal, (home, dest) = records.journal(JOURNAL), records.ends()
        if key_of(volume, home) in journal.all():
            return
        own = self._movable(instance, volume, dest)
        if own.host is None:
            reason = (
                "it does not tell where volumes are attached: these credentials are not an administrator's"
            )
            raise CloudServiceRefused(service="Cinder", reason=reason)
        if own.host != self._name(home):
            reason = f"it is attached on {own.host}, and the server is on {self._name(home)}"
            raise unmovable(volume, dest, reason)
        if volume.path is None and (name := opened(own)[0]) != volume.name:
            reason = f"the definition opens {volume.name}, and Cinder says {name}"
            raise unmovable(volume, dest, reason, f"{CLIENT} show {own.id}")
        facts: dict[str, Any] = {"mode": own.mode, "device": own.device}
        if volume.path is not None:
            facts |= {"path": volume.path, "connection": harmless(own.connection)}
        journal.intend(key_of(volume, home), attachment=own.id, **facts)

    # -- the attachments ----------------------------------------------------------------------------------

    def _keep(
        self,
        records: FencedRecords,
        instance: str,
        volume: Volume,
        mine: list[Attachment],
        besides: str = "",
    ) -> list[Attachment]:
        """See that there is an empty one among *mine* that is not *besides*; return all that the server has then."""
        if not any(one.empty and one.id != besides for one in mine):
            journal = records.journal(JOURNAL)
            for one in [one for one in mine if one.status == "attaching" and is_ours(journal, volume, one)]:
                records.see_valid()
                self._service.complete(one.id)  # Cinder makes no other one before that
            records.see_valid()
            home = entry_of(records, volume, records.ends()[0])
            self._service.reserve(volume.serial or "", instance, home.data.get("mode") if home else None)
            mine = self._mine(instance, volume)
        return mine

    def _take(self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool) -> None:
        journal, key = records.journal(JOURNAL), key_of(volume, self._host)
        if undoing and key not in journal.all():
            return
        mine = self._mine(instance, volume)
        own = own_of(mine, journal.get(key))
        if own is None:
            mine = self._keep(records, instance, volume, mine)
            own = self._choose(records, journal, volume, mine)
        for other in [one for one in mine if one.id != own.id and not one.empty]:
            if not undoing or not is_ours(journal, volume, other):
                reason = f"attachment {other.id} ({other.status}) is in the way"
                raise VolumeUnreachable(volume=called(volume), host=self._host, reason=reason)
            mine = self._drop(records, mine, other.id)
        own = self._open(records, instance, volume, own)
        facts = self._reach(journal, key, volume, own)
        if own.status != "attached":
            records.see_valid()
            self._service.complete(own.id)
        journal.done(key, **facts)
        for spare in [one for one in mine if one.id != own.id and one.empty]:
            mine = self._drop(records, mine, spare.id)

    def _choose(
        self, records: FencedRecords, journal: Journal, volume: Volume, mine: list[Attachment]
    ) -> Attachment:
        """Write down which empty attachment is to be this host's."""
        own = next((one for one in mine if one.empty), None)
        if own is None:
            reason = "Cinder takes the attachment, and does not have it"
            raise VolumeUnreachable(volume=called(volume), host=self._host, reason=reason)
        home, key = entry_of(records, volume, records.ends()[0]), key_of(volume, self._host)
        facts = {name: home.data.get(name) for name in ("mode", "device")} if home else {}
        journal.undone(key)
        journal.intend(key, **facts, attachment=own.id)
        return own

    def _open(self, records: FencedRecords, instance: str, volume: Volume, own: Attachment) -> Attachment:
        """See that the attachment has this host's connector, and that QEMU can open what Cinder says of it."""
        if not own.connection:
            entry = entry_of(records, volume, self._host)
            device = (entry.data.get("device") if entry else None) or f"/dev/{volume.target}"
            records.see_valid()
            self._service.connect(own.id, self._told_of_host(instance, volume, device))
            own = own_of(self._mine(instance, volume), entry) or dataclasses.replace(own, status="gone")
        if reason := unusable(volume, own):
            raise VolumeUnreachable(volume=called(volume), host=self._host, reason=reason)
        return own

    def _reach(self, journal: Journal, key: str, volume: Volume, own: Attachment) -> dict[str, Any]:
        """Connect it to the host, if that is how it is reached; return what this host opens."""
        if volume.path is not None:
            journal.know(key, connection=harmless(own.connection))
            return {"path": self._connector.connect(volume, own.connection)}
        name, hosts = opened(own)
        return {"name": name, "hosts": hosts} if volume.protocol == "iscsi" else {}

    def _let_go(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        if self._host == records.ends()[0]:
            self._intend(records, instance, volume)  # posted by a version that reserved nothing
        journal, key = records.journal(JOURNAL), key_of(volume, self._host)
        entry = journal.get(key)
        if entry is None:
            return
        mine = self._mine(instance, volume)
        own = own_of(mine, entry)
        connection = (own.connection if own else None) or entry.data.get("connection")
        if volume.path is not None and connection and not self._is_others_here(instance, volume):
            self._connector.disconnect(volume, connection, entry.data.get("path", ""))
        if own:
            # One that is empty still goes, too: a request of a dead worker may be about to connect it.
            self._drop(records, self._keep(records, instance, volume, mine, own.id), own.id)
        journal.undone(key)

    def _is_others_here(self, instance: str, volume: Volume) -> bool:
        """Tell whether another server has the volume on this host, too, by the same device."""
        found = self._service.volume(volume.serial or "")
        here = self._name(self._host)
        return found is not None and any(
            one.server != instance and one.host == here for one in found.attachments
        )

    def _drop(self, records: FencedRecords, mine: list[Attachment], attachment: str) -> list[Attachment]:
        """Drop one of the server's attachments, never its last; return the others."""
        others = [one for one in mine if one.id != attachment]
        if not others:
            raise ForeignObject(
                what=f"attachment {attachment}, the last that the server has,", host=self._host
            )
        records.see_valid()
        self._service.drop(attachment)
        return others

    def _mine(self, instance: str, volume: Volume) -> list[Attachment]:
        """Return how the server has the volume; one that is gone it has not."""
        return [one for one in self._service.attachments_of(instance) if one.volume == volume.serial]

    def _told_of_host(self, instance: str, volume: Volume, device: str) -> dict[str, Any]:
        """Return what Cinder's drivers ask of a host; where QEMU opens the volume, what os-brick would say of it."""
        if volume.path is not None:
            own = {"host": self._name(self._host), "mountpoint": device}
            return {**self._connector.properties(), **own}
        return qemus_connector(volume, instance, self._name(self._host), self._address, device)

    def _name(self, host: str) -> str:
        return self._names.get(host, host)


def _manner(undoing: bool) -> AbstractContextManager[None]:
    """Let a step fail if Cinder is away, and its undo wait."""
    return nullcontext() if undoing else failing("Cinder")
