"""Fakes whose memory is a file: every process of a host sees the same guests, as with a libvirtd that lives on.

What they really change is added to a ledger, which all processes of a world share: so that it can be counted how
often a thing happened, whoever did it and whatever the records say.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostler.drivers.hypervisor.fake import FakeGuest, FakeHypervisor
from hostler.drivers.notifications import Message
from hostler.drivers.notifications.fake import FakeNotifications
from hostler.drivers.volumes.fake import FakeVolumes
from hostler.objects import Domain, Volume

LOOKS = ("list_domains", "exists", "describe", "power_state", "qemu_pids", "busy", "destination_problems")
CHANGES = (
    *("start", "shutdown", "destroy", "resume", "set_autostart", "undefine", "define"),
    *("create_paused", "remove_mark"),
)


@dataclass(frozen=True)
class Entry:
    """One thing that happened."""

    pid: int
    host: str
    what: str


class Ledger:
    """What happened in a world, in order, as lines of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: called before anything is changed
        self.about: Callable[[], None] = lambda: None

    def add(self, host: str, what: str) -> None:
        """Write down that it happened."""
        line = json.dumps([os.getpid(), host, what]) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def entries(self) -> list[Entry]:
        """Return all of it."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [Entry(*json.loads(line)) for line in lines]


class Memory:
    """A dictionary in a file, held by one thread of one process at a time."""

    def __init__(self, path: Path, empty: dict[str, Any]) -> None:
        self._path = path
        self._empty = empty
        self._lock = threading.RLock()
        self._held = 0
        self._data: dict[str, Any] = {}

    @contextmanager
    def held(self) -> Iterator[dict[str, Any]]:
        """Give it; what was changed inside is written."""
        with self._lock:
            if self._held:
                yield self._data
                return
            descriptor = os.open(
                self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                before = self.look()
                self._data, self._held = before, 1
                unchanged = pickle.dumps(before)
                yield self._data
                if pickle.dumps(self._data) != unchanged:
                    self._write()
            finally:
                self._held = 0
                os.close(descriptor)

    def look(self) -> dict[str, Any]:
        """Return it as it is now: inside a call of this process, or as it was last written."""
        if self._held:
            return self._data
        try:
            found: dict[str, Any] = pickle.loads(self._path.read_bytes())
        except FileNotFoundError:
            return pickle.loads(pickle.dumps(self._empty))  # type: ignore[no-any-return]
        return found

    def _write(self) -> None:
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(pickle.dumps(self._data))
        fresh.replace(self._path)


class KeptHypervisor(FakeHypervisor):
    """The fake hypervisor of a host, as each of its processes sees it."""

    def __init__(self, host: str, *, directory: Path, others: list[Path], ledger: Ledger) -> None:
        self._memory = Memory(directory / "guests", {"guests": {}, "booted": {}})
        self._others = [Memory(other / "guests", {"guests": {}, "booted": {}}) for other in others]
        self._ledger = ledger
        self._to_tell = threading.local()
        super().__init__(host, root=directory / "root", on_boot=self._began)

    @property
    def guests(self) -> dict[str, FakeGuest]:  # type: ignore[override]
        """The host's domains."""
        return self._memory.look()["guests"]  # type: ignore[no-any-return]

    @guests.setter
    def guests(self, _nothing: object) -> None:
        """The memory is there already."""

    @property
    def booted(self) -> dict[str, int]:  # type: ignore[override]
        """How often each guest began to execute."""
        return self._memory.look()["booted"]  # type: ignore[no-any-return]

    @booted.setter
    def booted(self, _nothing: object) -> None:
        """The memory is there already."""

    def wait_until_off(self, uuid: str, timeout_s: float) -> bool:
        """Wait until the domain is inactive, and let others call meanwhile."""
        deadline = time.monotonic() + timeout_s
        while self.power_state(uuid).active:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _changing(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], named: Any) -> Any:
        self._ledger.about()
        self._to_tell.uuids = []
        with self._memory.held() as data:
            before = pickle.dumps(data["guests"])
            result = real(self, *arguments, **named)
            if pickle.dumps(data["guests"]) != before:
                self._ledger.add(self.host, name)
        for uuid in self._to_tell.uuids:
            super()._tell(uuid)
        return result

    def _tell(self, uuid: str) -> None:
        """Tell of it when the call is over: a listener asks back."""
        self._to_tell.uuids.append(uuid)

    def _began(self, domain: Domain) -> None:
        self._ledger.add(self.host, "boot")
        for other in self._others:
            guest = other.look()["guests"].get(domain.uuid)
            if guest is not None and guest.executing:
                self._ledger.add(self.host, "MISDEED the guest began while it executed elsewhere")


def _looking(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: KeptHypervisor, *arguments: Any, **named: Any) -> Any:
        with self._memory.held():
            return real(self, *arguments, **named)

    return call


def _changing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: KeptHypervisor, *arguments: Any, **named: Any) -> Any:
        return self._changing(name, real, arguments, named)

    return call


for _name in LOOKS:
    setattr(KeptHypervisor, _name, _looking(getattr(FakeHypervisor, _name)))
for _name in CHANGES:
    setattr(KeptHypervisor, _name, _changing(_name, getattr(FakeHypervisor, _name)))


class KeptVolumes(FakeVolumes):
    """The fake volumes of a host, as each of its processes sees them."""

    def __init__(self, host: str, *, directory: Path, ledger: Ledger) -> None:
        self._memory = Memory(directory / "volumes", {"connected": set()})
        self._ledger = ledger
        super().__init__(host)

    @property
    def connected(self) -> set[str]:  # type: ignore[override]
        """Names of the volumes."""
        return self._memory.look()["connected"]  # type: ignore[no-any-return]

    @connected.setter
    def connected(self, _nothing: object) -> None:
        """The memory is there already."""

    def connect(self, records: Any, instance: str, volume: Volume, *, undoing: bool = False) -> None:
        """Connect it."""
        self._change("connect", records, instance, volume)

    def disconnect(self, records: Any, instance: str, volume: Volume, *, undoing: bool = False) -> None:
        """Let go of it."""
        self._change("disconnect", records, instance, volume)

    def _change(self, what: str, records: Any, instance: str, volume: Volume) -> None:
        self._ledger.about()
        with self._memory.held() as data:
            before = set(data["connected"])
            getattr(FakeVolumes, what)(self, records, instance, volume)
            if data["connected"] != before:
                self._ledger.add(self.host, f"{what} {volume.name}")


class KeptNotifications(FakeNotifications):
    """Notifications that go into the ledger; one that is sent twice is no misdeed."""

    def __init__(self, host: str, *, ledger: Ledger) -> None:
        super().__init__()
        self._host = host
        self._ledger = ledger

    def notify(self, message: Message) -> None:
        """Write it down."""
        self._ledger.about()
        self._ledger.add(self._host, f"notify {message.event_type}")
        super().notify(message)
