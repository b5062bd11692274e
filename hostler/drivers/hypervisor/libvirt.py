"""libvirt with QEMU/KVM: the domains of this host."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import libvirt
from oslo_config import cfg

from hostler import errors
from hostler.drivers.hypervisor import (
    DomainListener,
    destination,
    domain_xml,
    guest_kinds,
    pins,
    placing,
    processes,
    runtime,
    topology,
)
from hostler.drivers.hypervisor.connection import Connection
from hostler.drivers.hypervisor.definitions import Definitions
from hostler.drivers.hypervisor.power_button import Presses
from hostler.objects import (
    Domain,
    DomainSummary,
    GuestKind,
    HostResources,
    Placement,
    PowerState,
    Snapshot,
)

#: Between two looks where an event might have been missed.
RECHECK_S = 1.0


class LibvirtHypervisor(Definitions):
    """:class:`~hostler.drivers.hypervisor.Hypervisor` through one libvirt connection, shared by all threads.

    *instances_path*: whose file system :meth:`resources` measures. *host*: this host's name in errors.
    Listeners are also called with ``""`` whenever the connection was (re)opened: look at everything again.
    """

    def __init__(
        self,
        uri: str = "qemu:///system",
        *,
        instances_path: str = "/var/lib/libvirt/images",
        host: str | None = None,
        connection: Connection | None = None,
    ) -> None:
        self._connection = connection or Connection(uri)
        self._instances_path = Path(instances_path)
        self._host = host or socket.gethostname()
        self._presses = Presses()

    # -- looking --------------------------------------------------------------------------------------------

    def resources(self) -> HostResources:
        """Return what the host has in all."""
        with self._connection.calls() as connection:
            info, version = connection.getInfo(), connection.getVersion()
        path = self._instances_path
        while not path.exists():
            path = path.parent
        space = os.statvfs(path)
        return HostResources(
            vcpus=info[2],
            memory_mb=info[1],
            local_disk_bytes=space.f_frsize * space.f_blocks,
            hypervisor_version=f"{version // 1000000}.{version // 1000 % 1000}.{version % 1000}",
        )

    def guest_kinds(self) -> list[GuestKind]:
        """Return the kinds of guest that the host can run."""
        with self._connection.calls() as connection:
            return guest_kinds.of_host(connection)

    def list_domains(self) -> list[DomainSummary]:
        """Return every domain, persistent and transient."""
        found = []
        with self._connection.calls() as connection:
            for domain in connection.listAllDomains(0):
                with _gone_is_fine():
                    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
                    state, persistent = runtime.power_state(domain), bool(domain.isPersistent())
                    found.append(domain_xml.read_summary(xml, state, persistent))
        return found

    def exists(self, uuid: str) -> bool:
        """Tell whether libvirt knows a domain of that UUID."""
        with self._connection.calls() as connection:
            return runtime.find(connection, uuid) is not None

    def describe(self, uuid: str) -> Domain:
        """Return the domain as it is defined, with what keeps it from being moved."""
        with self._connection.calls() as connection:
            domain = self._lookup(connection, uuid)
            xml = runtime.defined_xml(domain)
            read = domain_xml.read_domain(
                xml, lambda pool, volume: runtime.volume_path(connection, pool, volume)
            )
            snapshots = runtime.snapshots(domain)
            more = runtime.obstacles(connection, domain, read, snapshots)
            return dataclasses.replace(
                read,
                power_state=runtime.power_state(domain),
                persistent=bool(domain.isPersistent()),
                autostart=bool(domain.autostart()),
                snapshots=snapshots,
                nvram=runtime.nvram(domain, read),
                obstacles=[*read.obstacles, *more],
            )

    def power_state(self, uuid: str) -> PowerState:
        """Return the power state; SHUTDOWN for a domain that does not exist."""
        with self._connection.calls() as connection:
            domain = runtime.find(connection, uuid)
            with _gone_is_fine():
                return runtime.power_state(domain) if domain is not None else PowerState.SHUTDOWN
            return PowerState.SHUTDOWN

    def qemu_pids(self, uuid: str) -> list[int]:
        """Return the QEMU processes of that UUID, known to libvirt or not."""
        return processes.qemu_pids(uuid)

    def agent_answers(self, uuid: str, timeout_s: float) -> bool | None:
        """Tell whether the guest's agent answers a ping; None where none is connected."""
        with self._connection.calls() as connection:
            domain = runtime.find(connection, uuid)
            with _gone_is_fine():
                return None if domain is None else runtime.agent_answers(domain, timeout_s)
            return None

    def busy(self, uuid: str) -> bool:
        """Tell whether a job or a call of anybody is still active on the domain."""
        with self._connection.calls() as connection:
            domain = runtime.find(connection, uuid)
            with _gone_is_fine():
                return domain is not None and runtime.busy(domain)
            return False

    def network_names(self) -> dict[str, bool]:
        """Return libvirt's virtual networks, and whether each is active."""
        with self._connection.calls() as connection:
            return {each.name(): bool(each.isActive()) for each in connection.listAllNetworks(0)}

    def bridge_exists(self, name: str) -> bool:
        """Tell whether the host has a network device of that name to plug guests into."""
        return name not in ("", ".", "..") and "/" not in name and Path("/sys/class/net", name).exists()

    def destination_problems(
        self, domain: Domain, networks: dict[str, str], *, same_host: bool = False
    ) -> list[str]:
        """Return, as sentences, why this host could not run *domain*."""
        with self._connection.calls() as connection:
            return destination.problems(connection, domain, same_host)

    def place(self, domain: Domain, others: Mapping[str, Placement] | None = None) -> Placement | None:
        """Return the CPUs and NUMA nodes that *domain* is to name here; the rules are in :mod:`.placing`."""
        if not pins.of_domain(domain.xml).any:
            return None
        with self._connection.calls() as connection:
            online = (number for number, there in enumerate(connection.getCPUMap()[1]) if there)
            found = topology.of_capabilities(connection.getCapabilities(), online)
            there = runtime.definitions(connection)
        taken = pins.all_held(there, others or {}, but=domain.uuid)
        return placing.place(domain.xml, found, taken, host=self._host, server=domain.name)

    # -- power ----------------------------------------------------------------------------------------------

    def start(self, uuid: str) -> None:
        """Start the domain; nothing if it is active."""
        with self._connection.calls(self._start_failure(uuid)) as connection:
            domain = self._lookup(connection, uuid)
            if not domain.isActive():
                runtime.refresh_pools(connection, runtime.defined_xml(domain))
                with _unless(domain.isActive):
                    domain.create()

    def shutdown(self, uuid: str) -> None:
        """Press the guest's power button once (ACPI); nothing if it is not active.

        A QEMU that hangs never answers, nor does libvirt then until that QEMU has ended: it is not waited for.
        """
        with self._connection.calls(self._stop_failure(uuid)) as connection:
            domain = self._lookup(connection, uuid)
            if domain.isActive() and not self._presses.under_way(uuid):
                with _unless(lambda: not _active(domain)):
                    self._presses.press(uuid, domain)

    def destroy(self, uuid: str) -> None:
        """End the domain at once; nothing if it is not active or does not exist."""
        with self._connection.calls(self._stop_failure(uuid)) as connection:
            domain = runtime.find(connection, uuid)
            if domain is not None and _active(domain):
                with _unless(lambda: not _active(domain)):
                    domain.destroy()

    def wait_until_off(self, uuid: str, timeout_s: float) -> bool:
        """Wait until the domain is inactive and no process of it lives."""
        deadline = time.monotonic() + timeout_s
        with processes.GuestProcesses(uuid) as guest:
            while True:
                seen = self._connection.changes.count
                alive, active = guest.alive(), self.power_state(uuid).active
                if not active and not alive:
                    return True
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                if active:
                    self._connection.changes.wait(seen, min(left_s, RECHECK_S))
                else:
                    guest.wait(min(left_s, RECHECK_S))

    def resume(self, uuid: str) -> None:
        """Let a paused guest run; nothing if it runs."""
        with self._connection.calls(self._start_failure(uuid)) as connection:
            domain = self._lookup(connection, uuid)
            if runtime.power_state(domain) is not PowerState.RUNNING:
                with _unless(lambda: runtime.power_state(domain) is PowerState.RUNNING):
                    domain.resume()

    def set_autostart(self, uuid: str, enabled: bool) -> None:
        """Say whether the host starts the domain when it boots; a transient domain never does."""
        with self._connection.calls() as connection:
            domain = self._lookup(connection, uuid)
            if bool(domain.autostart()) != enabled:
                domain.setAutostart(int(enabled))
                # libvirt 9.0 reports success even if it could not remove its link
                if bool(domain.autostart()) != enabled:
                    raise errors.MigrationError(
                        f"libvirt did not switch autostart of {uuid} {'on' if enabled else 'off'}: see its log"
                    )

    # -- definitions ----------------------------------------------------------------------------------------

    def undefine(self, uuid: str) -> None:
        """Forget the definition and the snapshots' metadata; UEFI variables, TPM state and images stay."""
        changed = self._failure(errors.DomainChanged, "what", instance=uuid)
        with self._connection.calls(changed) as connection:
            domain = runtime.find(connection, uuid)
            if domain is None:
                return
            self._refuse_active(domain, uuid)
            if domain.listAllCheckpoints(0):  # libvirt 9.0 forgets them without being told to
                raise errors.DomainChanged(instance=uuid, what="it has checkpoints, which would be lost")
            xml, snapshots = runtime.defined_xml(domain), runtime.snapshots(domain)
            autostart = bool(domain.autostart())
            domain.undefineFlags(runtime.undefine_flags(connection, domain_xml.read_domain(xml)))
            # undefining a running domain succeeds, and leaves it running without a definition
            left = runtime.find(connection, uuid)
            if left is not None:
                if not left.isPersistent():
                    runtime.define(connection, xml, snapshots, autostart)
                raise errors.InstanceIsActive(instance=uuid, host=self._host)

    def define(self, xml: str, snapshots: Sequence[Snapshot] = (), autostart: bool = False) -> None:
        """Define domain and snapshots; an active transient domain of the same mark is persistent then."""
        wanted = domain_xml.read_domain(xml)
        with self._connection.calls() as connection:
            self._refuse_foreign(connection, wanted)
            runtime.define(connection, xml, snapshots, autostart)

    def create_paused(self, xml: str) -> None:
        """Create a transient guest that holds all its resources and has executed no instruction."""
        wanted = domain_xml.read_domain(xml)
        with self._connection.calls(self._start_failure(wanted.uuid)) as connection:
            existing = self._refuse_foreign(connection, wanted)
            if existing is not None:
                if wanted.migration and runtime.power_state(existing) is PowerState.PAUSED:
                    return
                raise self._foreign(f"domain {wanted.name!r}")
            runtime.refresh_pools(connection, xml)
            connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)

    def remove_mark(self, uuid: str, migration: str) -> None:
        """Remove *migration*'s mark from the domain, from the guest that runs and from its definition."""
        with self._connection.calls() as connection:
            domain = runtime.find(connection, uuid)
            if domain is None:
                return
            found = domain_xml.mark_of(domain_xml.parse(runtime.defined_xml(domain)))
            if found not in (None, migration):
                raise self._foreign(f"domain {domain.name()!r}")
            runtime.remove_mark(domain)

    # -- the connection -------------------------------------------------------------------------------------

    def listen(self, listener: DomainListener) -> None:
        """Call *listener* after each change of a domain, and with ``""`` after each (re)connect."""
        self._connection.listen(listener)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    # -- refusals -------------------------------------------------------------------------------------------

    def _lookup(self, connection: Any, uuid: str) -> Any:
        domain = runtime.find(connection, uuid)
        if domain is None:
            raise errors.InstanceNotFound(name=uuid)
        return domain

    def _refuse_active(self, domain: Any, uuid: str) -> None:
        if _active(domain):
            raise errors.InstanceIsActive(instance=uuid, host=self._host)

    def _refuse_foreign(self, connection: Any, wanted: Domain) -> Any:
        """Return the domain that is there already, or None; one that is not *wanted* is not ours."""
        for existing in connection.listAllDomains(0):
            with _gone_is_fine():
                uuid, name = existing.UUIDString(), existing.name()
                if uuid == wanted.uuid:
                    mark = domain_xml.mark_of(domain_xml.parse(runtime.defined_xml(existing)))
                    if name != wanted.name or mark != wanted.migration:
                        raise self._foreign(f"domain {name!r} with UUID {uuid}")
                    return existing
                if name == wanted.name:
                    raise self._foreign(f"domain {name!r} with UUID {uuid}")
        return None

    def _foreign(self, what: str) -> errors.ForeignObject:
        return errors.ForeignObject(what=what, host=self._host)

    def _failure(self, kind: type[errors.HostlerError], reason_key: str = "reason", **facts: object) -> Any:
        return lambda reason: kind(**{reason_key: reason}, **facts)

    def _start_failure(self, uuid: str) -> Any:
        return self._failure(errors.GuestStartError, instance=uuid, host=self._host)

    def _stop_failure(self, uuid: str) -> Any:
        return self._failure(errors.InstancePowerOffFailure, instance=uuid)


def from_conf(conf: cfg.ConfigOpts) -> LibvirtHypervisor:
    """Return the driver of this host's libvirt."""
    return LibvirtHypervisor(conf.libvirt.uri, instances_path=conf.instances_path, host=conf.host)


def _active(domain: Any) -> bool:
    """Tell whether the guest is there; a transient one is gone when it ended."""
    with _gone_is_fine():
        return bool(domain.isActive())
    return False


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


@contextlib.contextmanager
def _unless(reached: Any) -> Iterator[None]:
    """Let an error of libvirt pass if what was asked for is so nevertheless: somebody else was faster."""
    try:
        yield
    except libvirt.libvirtError:
        if not reached():
            raise
