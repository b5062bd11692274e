"""A host's domains in memory, for tests: the same promises as libvirt's, and failures on demand."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hostler import errors
from hostler.drivers.hypervisor import (
    DomainListener,
    domain_edit,
    domain_xml,
    pins,
    placing,
    topology,
)
from hostler.drivers.hypervisor.definitions import Definitions
from hostler.drivers.hypervisor.fake_guest import FakeGuest, Journal, files_of, make_state, under
from hostler.objects import (
    Domain,
    DomainSummary,
    GuestKind,
    HostResources,
    Placement,
    PowerState,
    Snapshot,
)

__all__ = ["FakeGuest", "FakeHypervisor", "Journal", "under"]

#: Called with a domain each time its guest begins to execute.
BootHook = Callable[[Domain], None]


class FakeHypervisor(Definitions):
    """:class:`~hostler.drivers.hypervisor.Hypervisor` without any guest.

    *root*: a folder under which the files of a domain must exist when it starts; None looks at none.
    *on_boot*: called whenever a guest begins to execute; :class:`Journal` writes to its disks.

    Tests may also look at and set what follows the parameters in ``__init__``.
    """

    def __init__(
        self, host: str = "fake", *, root: Path | None = None, on_boot: BootHook | None = None
    ) -> None:
        self.host = host
        self.root = root
        self.on_boot = on_boot
        #: UUIDs of guests that do not listen to the power button
        self.ignore_acpi: set[str] = set()
        #: how many presses of the power button each guest misses before it listens
        self.lost_presses: dict[str, int] = {}
        #: whether the agent that is connected in each guest answers; none is in others
        self.agents: dict[str, bool] = {}
        #: UUIDs of domains on which somebody's job is active
        self.jobs: set[str] = set()
        #: (name of the call, UUID or None), oldest first
        self.calls: list[tuple[str, str | None]] = []
        #: how often the guest of each UUID has begun to execute; it outlives the domain
        self.booted: dict[str, int] = {}
        self.machines: set[str] | None = None  #: the machine types that there are; None: all
        self.networks: dict[str, bool] = {"default": True}
        self.bridges: set[str] = set()
        self.total = HostResources(
            vcpus=64, memory_mb=262_144, local_disk_bytes=10 * 2**40, hypervisor_version="7.2.0"
        )
        self.topology = topology.uniform(self.total.vcpus, self.total.memory_mb)
        self.powered = True
        self.guests: dict[str, FakeGuest] = {}
        self._failures: dict[str, list[BaseException]] = {}
        self._listeners: list[DomainListener] = []
        self._changed = threading.Condition(threading.RLock())

    # -- what a test does -----------------------------------------------------------------------------------

    def fail_next(self, call: str, error: BaseException, times: int = 1) -> None:
        """Let the next *times* calls of that name raise *error* before they do anything."""
        self._failures.setdefault(call, []).extend([error] * times)

    def power_cut(self) -> None:
        """End every guest at once; transient ones are forgotten, and no call is answered until power_on."""
        with self._changed:
            self.powered = False
            for uuid, guest in list(self.guests.items()):
                self._off(uuid, guest)

    def power_on(self) -> None:
        """Boot the host: domains with autostart are started before anybody else can act."""
        with self._changed:
            self.powered = True
            for uuid, guest in self.guests.items():
                if guest.autostart:
                    self._begin(uuid, guest)
        self._tell("")

    # -- looking --------------------------------------------------------------------------------------------

    def resources(self) -> HostResources:
        """Return what the host has in all."""
        self._enter("resources", None)
        return self.total

    def guest_kinds(self) -> list[GuestKind]:
        """Return the kinds of guest that *machines* makes."""
        self._enter("guest_kinds", None)
        machines = sorted(self.machines or ())
        return [GuestKind("x86_64", virt_type, machines) for virt_type in ("kvm", "qemu")] if machines else []

    def list_domains(self) -> list[DomainSummary]:
        """Return every domain."""
        self._enter("list_domains", None)
        with self._changed:
            guests = list(self.guests.values())
        return [domain_xml.read_summary(guest.xml, guest.state, guest.persistent) for guest in guests]

    def exists(self, uuid: str) -> bool:
        """Tell whether there is a domain of that UUID."""
        self._enter("exists", uuid)
        return uuid in self.guests

    def describe(self, uuid: str) -> Domain:
        """Return the domain as it is defined."""
        self._enter("describe", uuid)
        with self._changed:
            guest = self._guest(uuid)
            domain = domain_xml.read_domain(guest.xml)
            transient = (
                [] if guest.persistent else ["it is not persistently defined: a power-off would erase it"]
            )
            return dataclasses.replace(
                domain,
                power_state=guest.state,
                persistent=guest.persistent,
                autostart=guest.autostart,
                snapshots=list(guest.snapshots),
                obstacles=[*domain.obstacles, *transient],
            )

    def power_state(self, uuid: str) -> PowerState:
        """Return the power state; SHUTDOWN for a domain that does not exist."""
        self._enter("power_state", uuid)
        return self._state(uuid)

    def qemu_pids(self, uuid: str) -> list[int]:
        """Return a made-up process where the guest is active."""
        self._enter("qemu_pids", uuid)
        return [100_000 + sorted(self.guests).index(uuid)] if self._state(uuid).active else []

    def agent_answers(self, uuid: str, timeout_s: float) -> bool | None:
        """Return what *agents* says of the guest that runs."""
        self._enter("agent_answers", uuid)
        return self.agents.get(uuid) if self._state(uuid) is PowerState.RUNNING else None

    def busy(self, uuid: str) -> bool:
        """Tell whether *jobs* names the domain."""
        self._enter("busy", uuid)
        return uuid in self.jobs and uuid in self.guests

    def network_names(self) -> dict[str, bool]:
        """Return the virtual networks, and whether each is active."""
        return dict(self.networks)

    def bridge_exists(self, name: str) -> bool:
        """Tell whether the host has a bridge of that name."""
        return name in self.bridges

    def destination_problems(
        self, domain: Domain, networks: dict[str, str], *, same_host: bool = False
    ) -> list[str]:
        """Return, as sentences, why this host could not run *domain*."""
        self._enter("destination_problems", domain.uuid)
        found = []
        for uuid, guest in self.guests.items():
            name = domain_xml.read_domain(guest.xml).name
            if uuid == domain.uuid and same_host:
                continue
            if uuid == domain.uuid:
                found.append(f"UUID {uuid} is taken by domain {name!r}")
            elif name == domain.name:
                found.append(f"name {name!r} is taken by domain {uuid}")
        found += [f"there is no firmware {path}" for path in self._missing(domain.firmware)]
        if self.machines is not None and domain.machine not in self.machines:
            found.append(f"machine {domain.machine} ({domain.arch}, {domain.virt_type}) cannot run")
        return found

    def place(self, domain: Domain, others: Mapping[str, Placement] | None = None) -> Placement | None:
        """Return the CPUs and NUMA nodes of *topology* that *domain* is to name."""
        self._enter("place", domain.uuid)
        there = {uuid: [guest.xml] for uuid, guest in self.guests.items()}
        taken = pins.all_held(there, others or {}, but=domain.uuid)
        return placing.place(domain.xml, self.topology, taken, host=self.host, server=domain.name)

    # -- power ----------------------------------------------------------------------------------------------

    def start(self, uuid: str) -> None:
        """Start the domain; its files must exist."""
        self._enter("start", uuid)
        with self._changed:
            guest = self._guest(uuid)
            if guest.state.active:
                return
            self._require_files(uuid, guest.xml)
            self._begin(uuid, guest)
        self._tell(uuid)

    def shutdown(self, uuid: str) -> None:
        """Press the power button; the guest obeys, misses it, or ignores it."""
        self._enter("shutdown", uuid)
        with self._changed:
            guest = self._guest(uuid)
            if guest.state is not PowerState.RUNNING or uuid in self.ignore_acpi:
                return
            if self.lost_presses.get(uuid, 0) > 0:
                self.lost_presses[uuid] -= 1
                return
            self._off(uuid, guest)
        self._tell(uuid)

    def destroy(self, uuid: str) -> None:
        """End the guest; nothing if it is not active."""
        self._enter("destroy", uuid)
        with self._changed:
            if not self._state(uuid).active:
                return
            self._off(uuid, self.guests[uuid])
        self._tell(uuid)

    def wait_until_off(self, uuid: str, timeout_s: float) -> bool:
        """Wait until the domain is inactive."""
        self._enter("wait_until_off", uuid)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._state(uuid).active, max(deadline - time.monotonic(), 0)
            )

    def resume(self, uuid: str) -> None:
        """Let a paused guest run."""
        self._enter("resume", uuid)
        with self._changed:
            guest = self._guest(uuid)
            if not guest.state.active:
                raise errors.GuestStartError(instance=uuid, host=self.host, reason="it is not active")
            if guest.state is PowerState.RUNNING:
                return
            self._begin(uuid, guest)
        self._tell(uuid)

    def set_autostart(self, uuid: str, enabled: bool) -> None:
        """Say whether power_on starts the domain."""
        self._enter("set_autostart", uuid)
        with self._changed:
            guest = self._guest(uuid)
            if enabled and not guest.persistent:
                raise errors.MigrationError("cannot set autostart for transient domain")
            guest.autostart = enabled

    # -- definitions ----------------------------------------------------------------------------------------

    def undefine(self, uuid: str) -> None:
        """Forget the definition."""
        self._enter("undefine", uuid)
        with self._changed:
            if self._state(uuid).active:
                raise errors.InstanceIsActive(instance=uuid, host=self.host)
            if self.guests.pop(uuid, None) is None:
                return
        self._tell(uuid)

    def define(self, xml: str, snapshots: Sequence[Snapshot] = (), autostart: bool = False) -> None:
        """Define the domain; an active transient one of the same mark is then persistent."""
        wanted = domain_xml.read_domain(xml)
        self._enter("define", wanted.uuid)
        with self._changed:
            guest = self._refuse_foreign(wanted) or FakeGuest(xml, persistent=True)
            guest.xml, guest.persistent, guest.autostart = xml, True, autostart
            known = {snapshot.name: snapshot for snapshot in [*guest.snapshots, *snapshots]}
            guest.snapshots = list(known.values())
            self.guests[wanted.uuid] = guest
        self._tell(wanted.uuid)

    def create_paused(self, xml: str) -> None:
        """Create a transient guest that has executed nothing."""
        wanted = domain_xml.read_domain(xml)
        self._enter("create_paused", wanted.uuid)
        with self._changed:
            existing = self._refuse_foreign(wanted)
            if existing is not None:
                if wanted.migration and existing.state is PowerState.PAUSED:
                    return
                raise self._foreign(f"domain {wanted.name!r}")
            self._require_files(wanted.uuid, xml)
            if self.root is not None:
                make_state(self.root, wanted)
            self.guests[wanted.uuid] = FakeGuest(xml, persistent=False, state=PowerState.PAUSED)
        self._tell(wanted.uuid)

    def remove_mark(self, uuid: str, migration: str) -> None:
        """Remove *migration*'s mark from the domain."""
        self._enter("remove_mark", uuid)
        with self._changed:
            guest = self.guests.get(uuid)
            if guest is None:
                return
            found = domain_xml.mark_of(domain_xml.parse(guest.xml))
            if found not in (None, migration):
                raise self._foreign(f"domain {uuid}")
            guest.xml = domain_edit.mark(guest.xml, None)

    def listen(self, listener: DomainListener) -> None:
        """Call *listener* after each change, from the thread that made it, and with ``""`` at once."""
        self._listeners.append(listener)
        listener("")

    def close(self) -> None:
        """Nothing is held."""

    # -- inside ---------------------------------------------------------------------------------------------

    def _enter(self, call: str, uuid: str | None) -> None:
        self.calls.append((call, uuid))
        if not self.powered:
            raise errors.ServerUnreachable(what="libvirt", where=self.host, reason="the host is off")
        waiting = self._failures.get(call)
        if waiting:
            raise waiting.pop(0)

    def _guest(self, uuid: str) -> FakeGuest:
        if uuid not in self.guests:
            raise errors.InstanceNotFound(name=uuid)
        return self.guests[uuid]

    def _state(self, uuid: str) -> PowerState:
        guest = self.guests.get(uuid)
        return guest.state if guest is not None else PowerState.SHUTDOWN

    def _begin(self, uuid: str, guest: FakeGuest) -> None:
        guest.state = PowerState.RUNNING
        if not guest.executing:
            guest.executing = True
            self.booted[uuid] = self.booted.get(uuid, 0) + 1
            if self.on_boot is not None:
                self.on_boot(domain_xml.read_domain(guest.xml))

    def _off(self, uuid: str, guest: FakeGuest) -> None:
        guest.state, guest.executing = PowerState.SHUTDOWN, False
        if not guest.persistent:
            del self.guests[uuid]

    def _refuse_foreign(self, wanted: Domain) -> FakeGuest | None:
        for uuid, guest in self.guests.items():
            there = domain_xml.read_domain(guest.xml)
            same = (there.name, there.migration) == (wanted.name, wanted.migration)
            if (uuid == wanted.uuid and not same) or (uuid != wanted.uuid and there.name == wanted.name):
                raise self._foreign(f"domain {there.name!r} with UUID {uuid}")
        return self.guests.get(wanted.uuid)

    def _foreign(self, what: str) -> errors.ForeignObject:
        return errors.ForeignObject(what=what, host=self.host)

    def _missing(self, paths: Sequence[str]) -> list[str]:
        return [path for path in paths if self.root is not None and not under(self.root, path).exists()]

    def _require_files(self, uuid: str, xml: str) -> None:
        missing = self._missing(files_of(domain_xml.read_domain(xml)))
        if missing:
            reason = f"Cannot access storage file '{missing[0]}': No such file or directory"
            raise errors.GuestStartError(instance=uuid, host=self.host, reason=reason)

    def _tell(self, uuid: str) -> None:
        with self._changed:
            self._changed.notify_all()
        for listener in list(self._listeners):
            listener(uuid)
