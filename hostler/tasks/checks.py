"""What is looked at before anything is touched. A dry run is the same checks, reported instead of raised."""

from __future__ import annotations

import contextlib
import shlex
from typing import Any

from hostler.drivers.hypervisor import Hypervisor
from hostler.errors import (
    CPUPinningInvalid,
    HostlerError,
    InstanceNotFound,
    MigrationPreCheckError,
    Problem,
    WritesWouldBeLost,
    hints_of,
)
from hostler.objects import DiskChange, Domain, Inventory, PowerState, Unit, UnitKind
from hostler.records import groups, hosts, instances, moves, placements
from hostler.records.hosts import Amounts
from hostler.tasks.base import DEST, SOURCE, HostTask, Leg, MigrationFacts
from hostler.tasks.domain import pinned
from hostler.tasks.ports import networks_of, networks_problems
from hostler.tasks.shared_storage import here, inventory_of, own_units, staying_of
from hostler.tasks.sizes import Disks, as_resized, definition_problems


class InspectInstance(HostTask):
    """Read everything that has to move, and refuse what cannot be moved.

    Reverts by: nothing; it only reads.
    """

    default_provides = "inventory"
    where = SOURCE

    def execute(self, leg: Leg) -> dict[str, Any]:
        """Return the inventory; every obstacle at once is a :class:`~hostler.errors.MigrationPreCheckError`."""
        inventory, problems = look_at_source(leg)
        if problems:
            raise MigrationPreCheckError(problems, host=leg.host, hint=_definition(leg))
        with leg.records.transaction() as session:
            instances.save(session, leg.migration.instance, disk_bytes=disk_need(inventory))
        return inventory.to_dict()


class CheckDestination(HostTask):
    """See that the destination can run the server: space, networks, machine type, free names and paths.

    Reverts by: nothing; it only reads.
    """

    elsewhere = True
    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Raise everything that speaks against it at once, as :class:`~hostler.errors.MigrationPreCheckError`."""
        problems = look_at_destination(leg, inventory_of(leg, inventory))
        if problems:
            raise MigrationPreCheckError(problems, host=leg.host)


class ProveWayBack(HostTask):
    """See that the source can have the server back: its files set aside and whole, its names free.

    Reverts by: nothing; it only reads.
    """

    where = SOURCE
    undone_anywhere = True

    def execute(self, leg: Leg, inventory: dict[str, Any]) -> None:
        """Raise everything that speaks against it at once, as :class:`~hostler.errors.MigrationPreCheckError`."""
        drivers, found = leg.drivers, inventory_of(leg, inventory)
        problems = _names_taken(leg, found.domain)
        problems += drivers.files.way_back_problems(
            found.units,
            leg.migration.uuid,
            lambda path: _digest(leg, path),
            here=here(leg, found.units),
        )
        problems += drivers.volumes.destination_problems(found.domain)
        if problems:
            raise MigrationPreCheckError(problems, host=leg.host)


class CheckGuest(HostTask):
    """See what goes back on the destination: this migration's guest and files, and what they would lose.

    Reverts by: nothing; it only reads.
    """

    where = DEST

    def execute(self, leg: Leg, inventory: dict[str, Any], drop_writes: bool) -> None:
        """Refuse to touch what is another's, and to drop writes that nobody said may be dropped."""
        hypervisor, facts = leg.drivers.hypervisor, (leg.migration.instance, leg.migration.uuid)
        own = own_units(leg, inventory)
        problems = leg.drivers.files.strangers(own, *facts)
        uuid = leg.migration.instance
        if hypervisor.exists(uuid):
            domain = hypervisor.describe(uuid)
            if domain.migration != leg.migration.uuid:
                problems.append(f"the domain of {leg.migration.name!r} is not the one that was moved here")
            problems += _unused(inventory_of(leg, inventory), domain)
        if problems:
            raise MigrationPreCheckError(problems, host=leg.host)
        if not drop_writes and leg.drivers.files.written(own, *facts):
            raise writes_would_be_lost(leg.migration)


class ReportSource(HostTask):
    """Say what would move and what keeps it from being moved; nothing is changed.

    Reverts by: nothing; it only reads.
    """

    default_provides = "source_report"
    where = SOURCE

    def execute(self, leg: Leg) -> dict[str, Any]:
        """Return the inventory and the problems."""
        inventory, problems = look_at_source(leg)
        hints = hints_of(problems, _definition(leg))
        return {"inventory": inventory.to_dict(), "problems": problems, "hints": hints}


class ReportDestination(HostTask):
    """Say what speaks against the destination, and write the whole report down; nothing is changed.

    Reverts by: nothing; it only reads.
    """

    where = DEST

    def execute(self, leg: Leg, source_report: dict[str, Any]) -> None:
        """Write the report to the migration's record."""
        inventory = inventory_of(leg, source_report)
        problems = _report_there(leg, inventory)
        hints = hints_of(problems, MigrationPreCheckError([], host=leg.host).hint)
        arriving = leg.drivers.files.missing(inventory.units)
        with leg.records.transaction() as session:
            report = {
                "source": source_report["problems"],
                "dest": problems,
                "hints": {"source": source_report.get("hints", []), "dest": hints},
                "bytes": sum(unit.size_bytes for unit in arriving),
                "files": [{"path": unit.path, "bytes": unit.size_bytes} for unit in arriving],
                "networks": networks_of(leg, inventory.domain.ports),
            }
            moves.save(session, leg.migration.uuid, report=report)


def look_at_source(leg: Leg) -> tuple[Inventory, list[str]]:
    """Return what has to move and, as sentences, what keeps it from being moved."""
    drivers = leg.drivers
    domain = drivers.volumes.recognise(drivers.hypervisor.describe(leg.migration.instance))
    others = _others(drivers.hypervisor, domain.uuid)
    units, problems = drivers.files.survey(domain, others, lambda path: _digest(leg, path))
    problems = [*domain.obstacles, *problems, *_needed(leg, units)]
    changes: list[DiskChange] = []
    if flavor := leg.migration.new_flavor:
        disks = Disks(domain, units, flavor, drivers.files.swap_area)
        changes = disks.changes()
        problems += [*disks.problems, *definition_problems(drivers.hypervisor, domain, flavor)]
    if domain.power_state not in (PowerState.RUNNING, PowerState.SHUTDOWN, PowerState.CRASHED):
        problems.append(f"server {domain.name!r} is {domain.power_state}: resume or stop it first")
    return Inventory(domain, units, changes), problems


def _definition(leg: Leg) -> str:
    """Return what shows why a server cannot leave this host."""
    return f"on {leg.host}: virsh dumpxml {leg.migration.instance}"


def _needed(leg: Leg, units: list[Unit]) -> list[str]:
    """Return, as sentences, what would move away from servers that were set aside here and may come back."""
    own = [unit.path for unit in units if unit.kind is UnitKind.OWN]
    return [
        f"{path} is needed by a server that was moved from here and is not confirmed yet"
        for path in sorted(pinned(leg.state_path))
        if any(path == home or path.startswith(f"{home}/") for home in own)
    ]


def _others(hypervisor: Hypervisor, uuid: str) -> list[Domain]:
    """Return the other domains of the host; one that is undefined while we look uses no file any more."""
    others = []
    for other in hypervisor.list_domains():
        if other.uuid != uuid:
            with contextlib.suppress(InstanceNotFound):
                others.append(hypervisor.describe(other.uuid))
    return others


def look_at_destination(leg: Leg, inventory: Inventory) -> list[str]:
    """Return, as sentences, why the destination could not take *inventory*."""
    drivers, migration = leg.drivers, leg.migration
    inventory = as_resized(drivers.hypervisor, inventory, migration.new_flavor)
    problems = drivers.hypervisor.destination_problems(
        inventory.domain, networks_of(leg, inventory.domain.ports), same_host=migration.same_host
    )
    problems += drivers.files.destination_problems(
        inventory.units,
        migration.instance,
        migration.uuid,
        lambda path: _digest(leg, path),
        here=here(leg, inventory.units),
    )
    problems += networks_problems(leg, inventory.domain.ports)
    problems += _placement_problems(leg, inventory.domain)
    problems += drivers.volumes.destination_problems(inventory.domain)
    return problems


def _placement_problems(leg: Leg, domain: Domain) -> list[str]:
    """Return, as a sentence, why the CPUs and NUMA nodes that the server is pinned to are not to be had here."""
    with leg.records.reading() as session:
        others = placements.of_others(session, leg.host, leg.migration.uuid)
    try:
        leg.drivers.hypervisor.place(domain, others)
    except CPUPinningInvalid as error:
        return [Problem(str(error.reason), error.hint)]
    return []


def _unused(inventory: Inventory, now: Domain) -> list[str]:
    """Return, as sentences, which disks that stay in place the server has left for others, as a snapshot does."""
    staying, used = staying_of(inventory), {disk.path for disk in now.disks}
    return [
        f"the server writes to another file than {disk.path} by now, and would go back to that one"
        for disk in inventory.domain.disks
        if disk.path not in used
        and any(disk.path == path or disk.path.startswith(f"{path}/") for path in staying)
    ]


def _names_taken(leg: Leg, domain: Domain) -> list[str]:
    """Return, as sentences, who has the server's UUID or name here; its own guest, where it moved to, has."""
    found = []
    for other in leg.drivers.hypervisor.list_domains():
        if other.uuid == domain.uuid and other.migration != leg.migration.uuid:
            found.append(f"UUID {other.uuid} is taken by domain {other.name!r}")
        elif other.uuid != domain.uuid and other.name == domain.name:
            found.append(f"name {other.name!r} is taken by domain {other.uuid}")
    return found


def writes_would_be_lost(migration: MigrationFacts) -> WritesWouldBeLost:
    """Return the refusal to drop what the server has written on the destination."""
    return WritesWouldBeLost(
        server=migration.name,
        host=migration.dest,
        source=migration.source,
        hint=f"hostler server revert {shlex.quote(migration.name)} --reason ... --drop-writes",
    )


def need_there(leg: Leg, inventory: Inventory) -> Amounts:
    """Return what the destination must have left for the server as it is to be.

    The host that it is on already gives it what goes beyond its present size, and room for a second copy.
    """
    need = need_of(as_resized(leg.drivers.hypervisor, inventory, leg.migration.new_flavor))
    return need.beyond(need_of(inventory)) if leg.migration.same_host else need


def kept_for_the_way_back(leg: Leg, inventory: Inventory) -> Amounts:
    """Return what the source keeps until the migration is confirmed, beside what the server has there then."""
    before = need_of(inventory)
    if not leg.migration.same_host:
        return before
    return before.beyond(need_of(as_resized(leg.drivers.hypervisor, inventory, leg.migration.new_flavor)))


def need_of(inventory: Inventory) -> Amounts:
    """Return what the server takes of a host."""
    domain: Domain = inventory.domain
    return Amounts(domain.vcpus, domain.memory_mb, disk_need(inventory))


def disk_need(inventory: Inventory) -> int:
    """Return the bytes that the server's own files may come to take; block devices take none of a file system."""
    return sum(
        max(entry.virtual_bytes, entry.size_bytes)
        for unit in inventory.units
        if unit.kind is UnitKind.OWN and unit.block is None
        for entry in unit.files
    )


def _report_there(leg: Leg, inventory: Inventory) -> list[str]:
    """Return what speaks against the destination, and against what it has left."""
    flavor = leg.migration.new_flavor
    if flavor is not None and definition_problems(leg.drivers.hypervisor, inventory.domain, flavor):
        return []  # there is nothing yet that could be looked at: the source says why
    problems = look_at_destination(leg, inventory)
    with leg.records.reading() as session:
        try:
            hosts.check_room(session, hosts.get(session, leg.host), need_there(leg, inventory))
            groups.check(session, leg.migration.instance, leg.host)
        except HostlerError as error:
            problems.append(Problem.of(error))
    return problems


def _digest(leg: Leg, path: str) -> str:
    return leg.drivers.verifier.digest(path, leg.checkpoint).digest
