"""Drivers that do nothing: what is left is the control path."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hostler.drivers.claims.records import RecordsClaims
from hostler.drivers.files.kept import Kept
from hostler.objects import (
    Domain,
    DomainSummary,
    HostResources,
    ImageDigest,
    PowerState,
    ReceiverAddress,
    Unit,
)
from hostler.tasks.base import Drivers


class NoopHypervisor:
    """Knows every domain; each does at once what it is told."""

    def __init__(self) -> None:
        self._gone: set[str] = set()
        self._states: dict[str, PowerState] = {}

    def resources(self) -> HostResources:
        return HostResources(vcpus=1000, memory_mb=1 << 24, local_disk_bytes=1 << 50, hypervisor_version="0")

    def list_domains(self) -> list[DomainSummary]:
        return []

    def exists(self, uuid: str) -> bool:
        return uuid not in self._gone

    def describe(self, uuid: str) -> Domain:
        return Domain(
            uuid=uuid,
            name=uuid,
            xml="<domain/>",
            power_state=self.power_state(uuid),
            persistent=True,
            autostart=False,
            vcpus=1,
            memory_mb=128,
            machine="pc",
            arch="x86_64",
            virt_type="qemu",
            emulator=None,
        )

    def power_state(self, uuid: str) -> PowerState:
        return self._states.get(uuid, PowerState.RUNNING)

    def qemu_pids(self, uuid: str) -> list[int]:
        return []

    def busy(self, uuid: str) -> bool:
        return False

    def start(self, uuid: str) -> None:
        self._states[uuid] = PowerState.RUNNING

    resume = start

    def shutdown(self, uuid: str) -> None:
        self._states[uuid] = PowerState.SHUTDOWN

    destroy = shutdown

    def wait_until_off(self, uuid: str, timeout_s: float) -> bool:
        return True

    def undefine(self, uuid: str) -> None:
        self._gone.add(uuid)

    def destination_problems(self, *_: Any, **__: Any) -> list[str]:
        return []

    def mark(self, xml: str, _migration: str | None) -> str:
        return xml

    def relocate(self, xml: str, *_: Any) -> str:
        return xml

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_kwargs: None


class NoopFiles:
    """A server has no files."""

    def survey(self, *_: Any) -> tuple[list[Unit], list[str]]:
        return [], []

    def destination_problems(self, *_: Any, **__: Any) -> list[str]:
        return []

    def missing(self, _units: Any) -> list[Unit]:
        return []

    absent = missing

    def make_parts(self, *_: Any, **__: Any) -> list[Unit]:
        return []

    def other_contents(self, *_: Any, **__: Any) -> list[str]:
        return []

    def take_up(self, *_: Any) -> list[str]:
        return []

    def kept(self) -> list[Kept]:
        return []

    def drop_kept(self, _needless: Any) -> list[Kept]:
        return []

    def marked(self, *_: Any) -> list[Any]:
        return []

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_kwargs: None


class NoopImages:
    """Receiver, sender and verifier in one."""

    def open(self, *_: Any) -> ReceiverAddress:
        return ReceiverAddress(host="", port=0, username="", key="")

    def restore(self) -> list[str]:
        return []

    open_migrations = restore

    def send(self, *_: Any) -> list[ImageDigest]:
        return []

    def certificate(self) -> str:
        return ""

    never_packed = certificate

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_kwargs: None


class Noop:
    """Volumes, ports and notifications in one."""

    couriers: Mapping[str, Any] = MappingProxyType({})

    def destination_problems(self, *_: Any, **__: Any) -> list[str]:
        return []

    def mapping(self, *_: Any) -> dict[str, str]:
        return {}

    def announced(self, *_: Any) -> dict[str, str]:
        return {}

    def recognise(self, domain: Domain) -> Domain:
        return domain

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_kwargs: None


def drivers() -> Drivers:
    """Return a host's worth of them; claims are the real ones, since they are records."""
    images: Any = NoopImages()
    hypervisor: Any = NoopHypervisor()
    files: Any = NoopFiles()
    nothing: Any = Noop()
    return Drivers(
        hypervisor=hypervisor,
        files=files,
        receiver=images,
        sender=images,
        verifier=images,
        volumes=nothing,
        ports=nothing,
        claims=RecordsClaims(),
        notifications=nothing,
    )
