"""What a host sees when it looks at itself."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hostler.drivers.claims import Claims
from hostler.drivers.files.marked import Marked
from hostler.drivers.hypervisor import Hypervisor
from hostler.drivers.images.confined import ROOM
from hostler.drivers.ports import Ports
from hostler.drivers.processes import Process
from hostler.drivers.volumes import Volumes
from hostler.errors import Failed, InstanceNotFound, Passing
from hostler.objects import Domain, PowerState, Record
from hostler.tasks.base import Drivers

#: Directories under *state_path* with one entry for each migration.
STATE = ("migrations", "images")

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass(frozen=True)
class DomainFacts(Record):
    """A domain, as far as the doctor compares it."""

    uuid: str
    name: str
    power_state: PowerState
    persistent: bool
    autostart: bool
    migration: str | None = None


@dataclass(frozen=True)
class StateFile(Record):
    """What the worker keeps of one migration under *state_path*."""

    path: str
    kind: str  #: one of :data:`STATE`
    migration: str


@dataclass(frozen=True)
class Stray(Record):
    """A process that takes images."""

    process: Process
    migration: str


@dataclass(frozen=True)
class BindingFacts(Record):
    """A binding of a server's port that leads elsewhere; or why that could not be seen."""

    instance: str
    port: str  #: as its service calls it; empty: its service did not tell
    text: str
    command: str = ""  #: what shows it


@dataclass(frozen=True)
class ConsumerFacts(Record):
    """Who holds something of the host in a service that counts it; or why that could not be seen."""

    uuid: str  #: of a server or a migration, ours or not; empty: its service did not tell
    text: str = ""


@dataclass(frozen=True)
class AttachmentFacts(Record):
    """An attachment of a server's volume that it does not use; or why that could not be seen."""

    instance: str
    attachment: str  #: as its service calls it; empty: its service did not tell
    text: str
    command: str = ""


@dataclass(frozen=True)
class HostFacts(Record):
    """All of a host that a migration may have left something in."""

    host: str
    domains: list[DomainFacts] = field(default_factory=list)
    files: list[Marked] = field(default_factory=list)
    state: list[StateFile] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)  #: recorded here
    running: list[Stray] = field(default_factory=list)
    bindings: list[BindingFacts] = field(default_factory=list)
    consumers: list[ConsumerFacts] = field(default_factory=list)
    attachments: list[AttachmentFacts] = field(default_factory=list)
    never_packed: str = ""  #: why no block can arrive packed here


def look(host: str, drivers: Drivers, state_path: str, run_path: str, places: Sequence[str]) -> HostFacts:
    """Look at this host; it only reads. *places*: directories in which migrations are known to have been."""
    domains = all_domains(drivers.hypervisor)
    return HostFacts(
        host=host,
        domains=[_facts(domain) for domain in domains],
        files=drivers.files.marked(domains, places),
        state=list(_state(Path(state_path))),
        receivers=drivers.receiver.open_migrations(),
        running=list(_running(Path(run_path, "images"))),
        bindings=list(_bindings(host, drivers.ports, domains)),
        consumers=_consumers(host, drivers.claims),
        attachments=list(_attachments(host, drivers.volumes, domains)),
        never_packed=drivers.receiver.never_packed(),
    )


def all_domains(hypervisor: Hypervisor) -> list[Domain]:
    """Return every domain whole; one that goes meanwhile is left out."""
    found = []
    for summary in hypervisor.list_domains():
        with contextlib.suppress(InstanceNotFound):
            found.append(hypervisor.describe(summary.uuid))
    return found


def _facts(domain: Domain) -> DomainFacts:
    return DomainFacts(
        uuid=domain.uuid,
        name=domain.name,
        power_state=domain.power_state,
        persistent=domain.persistent,
        autostart=domain.autostart,
        migration=domain.migration,
    )


def _bindings(host: str, ports: Ports, domains: Sequence[Domain]) -> Iterator[BindingFacts]:
    """Give what leads elsewhere; a service that is away is told once."""
    for domain in domains:
        try:
            astray = ports.astray(domain.uuid, domain.ports, host)
        except (Passing, Failed) as error:
            yield BindingFacts(domain.uuid, "", f"the ports of servers here were not looked at: {error}")
            return
        yield from (BindingFacts(domain.uuid, one.port, one.text, one.command) for one in astray)


def _consumers(host: str, claims: Claims) -> list[ConsumerFacts]:
    try:
        return [ConsumerFacts(uuid) for uuid in claims.consumers(host)]
    except (Passing, Failed) as error:
        return [ConsumerFacts("", f"who holds a part of this host was not looked at: {error}")]


def _attachments(host: str, volumes: Volumes, domains: Sequence[Domain]) -> Iterator[AttachmentFacts]:
    """Give what is of no use; a service that is away is told once."""
    for domain in domains:
        try:
            astray = volumes.astray(domain, host)
        except (Passing, Failed) as error:
            text = f"the volumes of servers here were not looked at: {error}"
            yield AttachmentFacts(domain.uuid, "", text)
            return
        yield from (AttachmentFacts(domain.uuid, one.attachment, one.text, one.command) for one in astray)


def _state(base: Path) -> Iterator[StateFile]:
    for kind in STATE:
        directory = base / kind
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if re.fullmatch(_UUID, path.name):
                yield StateFile(str(path), kind, path.name)


def _running(run_dir: Path) -> Iterator[Stray]:
    """Give every process that was started to take images, encrypted or not: it was told what to offer of *run_dir*."""
    room, base = re.escape(ROOM), re.escape(str(run_dir))
    offered = re.compile(rf"dir=(?:{room})?{base}/({_UUID})/exports")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            process = Process.of(int(entry.name))
            words = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
            found = next(filter(None, map(offered.fullmatch, words)), None)
            if process is not None and found is not None:
                yield Stray(process, found[1])
