"""What hostler asks of a hypervisor, and what it promises in return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hostler.objects import (
    Domain,
    DomainSummary,
    GuestKind,
    HostResources,
    Placement,
    PowerState,
    Snapshot,
    Volume,
)

#: Called with a domain's UUID whenever it was started, stopped, defined or undefined by anybody; with the
#: empty string when events may have been missed: look at every domain again.
DomainListener = Callable[[str], None]


class Hypervisor(Protocol):
    """The domains of one host.

    Every call is idempotent: asking twice is asking once. A domain is named by its UUID; one that does not
    exist is :class:`hostler.errors.InstanceNotFound`, unless the call says otherwise. A hypervisor that does
    not answer is :class:`hostler.errors.ServerUnreachable`. No call waits for a guest unless it says so.
    """

    def resources(self) -> HostResources:
        """Return what the host has in all."""

    def guest_kinds(self) -> list[GuestKind]:
        """Return the kinds of guest that the host can run; empty if that is not known."""

    def list_domains(self) -> list[DomainSummary]:
        """Return every domain, persistent and transient."""

    def exists(self, uuid: str) -> bool:
        """Tell whether the hypervisor knows a domain of that UUID."""

    def describe(self, uuid: str) -> Domain:
        """Return the domain as it is defined, snapshots and all; nothing is changed.

        *obstacles* lists what keeps it from being moved: managed save, passed-through host devices, external
        snapshots or checkpoints, a lifecycle action that would start it again, host-bound shares...
        """

    def power_state(self, uuid: str) -> PowerState:
        """Return the power state; SHUTDOWN for a domain that does not exist."""

    def qemu_pids(self, uuid: str) -> list[int]:
        """Return the processes on this host that run a guest of that UUID, known to the hypervisor or not."""

    def agent_answers(self, uuid: str, timeout_s: float) -> bool | None:
        """Tell whether the agent in the guest answers a ping in time; None where no agent is connected."""

    def busy(self, uuid: str) -> bool:
        """Tell whether a job or call of anybody is still active on the domain; False where there is none."""

    def start(self, uuid: str) -> None:
        """Start the domain; nothing if it is active."""

    def shutdown(self, uuid: str) -> None:
        """Press the guest's power button once (ACPI); nothing if it is not active."""

    def destroy(self, uuid: str) -> None:
        """End the domain at once; nothing if it is not active or does not exist."""

    def wait_until_off(self, uuid: str, timeout_s: float) -> bool:
        """Wait until the domain is inactive and no process of it lives; tell whether that came in time."""

    def set_autostart(self, uuid: str, enabled: bool) -> None:
        """Say whether the host starts the domain when it boots."""

    def undefine(self, uuid: str) -> None:
        """Forget the definition and the snapshots' metadata; UEFI variables, TPM state and images stay.

        Nothing if it does not exist. An active domain is :class:`hostler.errors.InstanceIsActive`.
        """

    def define(self, xml: str, snapshots: Sequence[Snapshot] = (), autostart: bool = False) -> None:
        """Define the domain and its snapshots (metadata only), parents first, the current one last.

        A domain of that UUID that *xml* does not describe by the same name and the same
        ``<hostler:migration>`` mark is :class:`hostler.errors.ForeignObject`. An active transient one of the
        same mark becomes persistent.
        """

    def create_paused(self, xml: str) -> None:
        """Create a transient guest that holds all its resources and has executed no instruction.

        Nothing if it is there already, paused, with the same mark; a foreign domain is
        :class:`hostler.errors.ForeignObject`; a guest that cannot be created is
        :class:`hostler.errors.GuestStartError`, and nothing of it is left.
        """

    def resume(self, uuid: str) -> None:
        """Let a paused guest run; nothing if it runs."""

    def destination_problems(
        self, domain: Domain, networks: dict[str, str], *, same_host: bool = False
    ) -> list[str]:
        """Return, as sentences, why this host could not run *domain*; empty if it can. It only reads.

        Looks at name and UUID, architecture, virtualization type, machine type, CPU, huge pages,
        emulator, firmware, UEFI, TPM, secrets and storage pools. *networks* is what
        :class:`~hostler.drivers.ports.Ports` would map; ports have their own check. *same_host*: it is a domain
        of this host, so that it may have its own name and UUID.
        """

    def place(self, domain: Domain, others: Mapping[str, Placement] | None = None) -> Placement | None:
        """Return the CPUs and NUMA nodes of this host that *domain* is to name; None if it names none. It only reads.

        They are none that another domain of this host has for itself, nor one of *others*: what servers on
        their way hold, by their UUIDs. :class:`hostler.errors.CPUPinningInvalid` if it does not fit.
        """

    def pin(self, xml: str, placement: Placement) -> str:
        """Return *xml* with the CPUs and nodes of *placement*; what it does not speak of stays."""

    def held(self, xml: str) -> Placement | None:
        """Return what a guest so defined takes of its host for itself; None if nothing."""

    def remove_mark(self, uuid: str, migration: str) -> None:
        """Remove *migration*'s mark from the domain, from its definition and from the guest that runs.

        Nothing if it does not exist or carries none; another migration's is
        :class:`hostler.errors.ForeignObject`.
        """

    def mark(self, xml: str, migration: str | None) -> str:
        """Return *xml* with ``<hostler:migration>`` in its metadata set to *migration*; None removes it."""

    def relocate(
        self, xml: str, ports: Mapping[str, str], volumes: Mapping[str, Volume] | None = None
    ) -> str:
        """Return *xml* with each ``<interface>`` plugged where *ports* (``network:a`` -> ``bridge:b``) says.

        *volumes*: what network disks open instead, by the guest's names for them. A snapshot's XML, which holds a
        domain's, is taken, too.
        """

    def resize(self, xml: str, vcpus: int, memory_mb: int) -> str:
        """Return *xml* with that many vCPUs and that much memory, and all that follows from them.

        What cannot be changed by a rule is :class:`hostler.errors.ResizeError`.
        """

    def listen(self, listener: DomainListener) -> None:
        """Call *listener*, from a thread of the driver, after each change of a domain and each reconnect.

        Events save waiting, no more: libvirtd may not tell of a guest that ends just after it was restarted.
        """

    def close(self) -> None:
        """Let go of the connection."""
