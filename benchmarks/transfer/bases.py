"""(d): ten servers whose overlays of 1 GiB have one base of 4 GiB, one after the other to the same host."""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from benchmarks.transfer.data import GIB, MIB, allocated, fill, sync
from hostler.drivers.files.local import LocalFiles
from hostler.drivers.images.receiver import NbdReceiver
from hostler.drivers.images.sender import NbdSender
from hostler.drivers.images.verifier import DiskVerifier
from hostler.objects import CopyProgress, Disk, Domain, Export, PowerState, Unit, UnitKind
from lab.sockets import free_port

SERVERS = 10
_POOL = "/pool"
_BASE = f"{_POOL}/base.raw"
_HERE = "127.0.0.1"


@dataclass
class Ends:
    """The files of both hosts, and what carries images between them."""

    directory: Path
    source: LocalFiles
    dest: LocalFiles
    receiver: NbdReceiver
    sender: NbdSender

    @classmethod
    def of(cls, directory: Path) -> Ends:
        """Make both hosts below *directory*."""
        for name in ("source", "dest"):
            (directory / name / _POOL[1:]).mkdir(parents=True)
        files = [LocalFiles(_POOL, str(directory / name), host=name) for name in ("source", "dest")]
        port = free_port()
        receiver = NbdReceiver(directory / "state", directory / "run", _HERE, (port, port))
        return cls(directory, *files, receiver, NbdSender(directory / "run"))

    def at(self, host: str, path: str) -> Path:
        """Return where a path of that host is here."""
        return self.directory / host / path[1:]

    def digest(self, path: str) -> str:
        """Return that of a file of either host, whichever has it: it is the base, and the same."""
        return DiskVerifier(self.directory).digest(str(self.at("source", path)), lambda: None).digest

    def move(self, number: int) -> dict[str, int]:
        """Carry a server over; return how many bytes left, by file."""
        instance, migration = str(uuid.UUID(int=number)), str(uuid.UUID(int=1000 + number))
        units, problems = self.source.survey(_domain(number), [], self.digest)
        assert not problems, problems
        arriving = self.dest.make_parts(units, instance, migration)
        exports = [self._export(at, unit, migration, instance) for at, unit in enumerate(arriving)]
        address = self.receiver.open(migration, exports, _HERE)
        sent: dict[str, int] = {}

        def note(progress: CopyProgress) -> None:
            sent[progress.path] = progress.sent_bytes

        self.sender.send(address, note, lambda: None, 60)
        self.receiver.forget(migration)
        for unit in arriving:
            self.dest.place(unit, instance, migration)
        self.dest.settle(units, instance, migration)
        for unit in units:
            if unit.kind is UnitKind.OWN:
                self.at("source", unit.path).unlink()
                self.at("dest", unit.path).unlink()
        return {f"/{Path(path).relative_to(self.directory / 'source')}": size for path, size in sent.items()}

    def _export(self, number: int, unit: Unit, migration: str, instance: str) -> Export:
        part = self.at("dest", self.dest.part(unit, instance, migration))
        source = self.at("source", unit.path)
        return Export(str(number), str(source), str(part), source.stat().st_size, True)


def measure(directory: Path, scale: float) -> dict[str, float]:
    """Move them all: how often the base has crossed the link, and the rest, as multiples of what is allocated."""
    ends = Ends.of(directory)
    base = ends.at("source", _BASE)
    with base.open("wb") as file:
        fill(file.fileno(), int(4 * GIB * scale))
    sync(base)
    sent: dict[str, int] = {}
    overlays = 0
    for number in range(1, SERVERS + 1):
        overlay = ends.at("source", _path(number))
        _make_overlay(overlay, int(GIB * scale) // MIB * MIB)
        overlays += allocated(overlay)
        for path, size in ends.move(number).items():
            sent[path] = sent.get(path, 0) + size
    of_base = sent.pop(_BASE)
    return {"base_crossings": of_base / allocated(base), "overlay_crossings": sum(sent.values()) / overlays}


def _path(number: int) -> str:
    return f"{_POOL}/server{number}.qcow2"


def _domain(number: int) -> Domain:
    return Domain(
        uuid=str(uuid.UUID(int=number)),
        name=f"server{number}",
        xml="",
        power_state=PowerState.SHUTDOWN,
        persistent=True,
        autostart=False,
        vcpus=1,
        memory_mb=64,
        machine="q35",
        arch="x86_64",
        virt_type="kvm",
        emulator=None,
        disks=[Disk("vda", _path(number), "qcow2")],
    )


def _make_overlay(path: Path, size: int) -> None:
    """Make it before its base is named: that has another path here."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(4 * GIB)], check=True)
    piece = min(size, 256 * MIB)
    words = [f"write -q -P {1 + at // piece % 255} {at} {piece}" for at in range(0, size - piece + 1, piece)]
    commands = [argument for word in words for argument in ("-c", word)]
    subprocess.run(["qemu-io", "-f", "qcow2", *commands, path], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        ["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", _BASE, "-F", "raw", path], check=True
    )
    sync(path)
