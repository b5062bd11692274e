"""A host under a temporary directory, and a knife that kills hostler between any two actions on its disk."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostler.drivers.files import disk, rename
from hostler.drivers.files.local import LocalFiles
from hostler.drivers.files.lvm_fake import FakeLvm
from hostler.objects import Disk, Domain, PowerState, Unit, UnitKind

INSTANCES = "/srv/vm"
UUID = "11111111-1111-4111-8111-111111111111"
MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


class FakeHost:
    """One host's disk."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.used: set[str] = set()
        for directory in (INSTANCES, "/var/lib/libvirt/qemu"):
            self.at(directory).mkdir(parents=True)
        self.lvm = FakeLvm(root)
        self.files = LocalFiles(
            INSTANCES,
            str(root),
            host=name,
            in_use=self.used.__contains__,
            block_devices=["/dev/disk/by-id/*"],
            lvm=self.lvm,
        )

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str = "", mode: int = 0o644) -> str:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text or f"contents of {path}")
        self.at(path).chmod(mode)
        return path

    def image(self, path: str, *options: str, size: str = "1M", image_format: str = "qcow2") -> str:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        target = f"file:{self.at(path)}"
        subprocess.run(
            ["qemu-img", "create", "-q", "-u", "-f", image_format, *options, target, size], check=True
        )
        return path

    def overlay(self, path: str, backing: str, backing_format: str = "raw") -> str:
        return self.image(path, "-b", backing, "-F", backing_format)

    def survey(self, domain: Domain, *others: Domain) -> tuple[list[Unit], list[str]]:
        return self.files.survey(domain, others, self.digest)

    def units(self, domain: Domain, *others: Domain) -> list[Unit]:
        units, obstacles = self.survey(domain, *others)
        assert obstacles == []
        return units

    def problems(self, units: list[Unit], migration: str = MIGRATION) -> list[str]:
        return self.files.destination_problems(units, UUID, migration, self.digest)

    def digest(self, path: str) -> str:
        return hashlib.sha256(self.at(path).read_bytes()).hexdigest()

    def part(self, unit: Unit, migration: str = MIGRATION, instance: str = UUID) -> Path:
        return self.at(self.files.part(unit, instance, migration))

    def receive(self, units: list[Unit], source: FakeHost, migration: str = MIGRATION) -> None:
        """Copy, as the sender and the receiver would."""
        for unit in self.files.missing(units):
            home = source.at(source.files.aside(unit, migration))
            part = self.part(unit, migration)
            for entry in unit.files:
                data = (home / entry.name if entry.name else home).read_bytes()
                (part / entry.name if entry.name else part).write_bytes(data)

    def tree(self, known: dict[int, str] | None = None) -> dict[str, tuple[object, ...]]:
        """Return what lies on the disk: kind, mode, contents, and, of inodes in *known*, their name then."""
        found: dict[str, tuple[object, ...]] = {}
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            name = str(path.relative_to(self.root))
            if name.startswith("run"):
                continue
            contents = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[name] = (
                stat.S_IFMT(status.st_mode),
                stat.S_IMODE(status.st_mode),
                contents,
                (known or {}).get(status.st_ino),
            )
        return found

    def inodes(self) -> dict[int, str]:
        return {path.lstat().st_ino: str(path.relative_to(self.root)) for path in self.root.rglob("*")}


def make_domain(
    *disks: Disk | str,
    name: str = "web1",
    uuid: str = UUID,
    nvram: str | None = None,
    tpm_state: str | None = None,
    boot_files: tuple[str, ...] = (),
) -> Domain:
    """Return a stopped domain; a disk given as a path is qcow2 if it says so."""
    as_disks = [
        one
        if isinstance(one, Disk)
        else Disk(f"vd{chr(97 + number)}", one, "qcow2" if one.endswith("2") else "raw")
        for number, one in enumerate(disks)
    ]
    return Domain(
        uuid=uuid, name=name, xml="", power_state=PowerState.SHUTDOWN, persistent=True, autostart=False,
        vcpus=1, memory_mb=64, machine="q35", arch="x86_64", virt_type="kvm", emulator=None,
        disks=as_disks, nvram=nvram, tpm_state=tpm_state, boot_files=list(boot_files),
    )  # fmt: skip


class Killed(BaseException):
    """The process has died here."""


class Knife:
    """Kills before the *at*-th action on the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    @contextmanager
    def at(self, number: int) -> Iterator[list[str]]:
        """Kill within; the list that comes holds the actions, and ends with the one that was not reached."""
        actions: list[str] = []

        def step(action: str) -> None:
            actions.append(action)
            if len(actions) == number:
                raise Killed

        def counted(real: Callable[..., None]) -> Callable[..., None]:
            def call(*args: object, **options: object) -> None:
                step(f"{real.__name__} {args[0]!s}")
                real(*args, **options)

            return call

        with self._monkeypatch.context() as patch:
            patch.setattr(disk, "step", step)
            patch.setattr(os, "unlink", counted(os.unlink))
            patch.setattr(os, "rmdir", counted(os.rmdir))
            yield actions

    def each(self, operation: Callable[[], None], number: int) -> bool:
        """Run *operation* and kill it before its action *number*; False if it has fewer."""
        with self.at(number):
            try:
                operation()
            except Killed:
                return True
        return False


@pytest.fixture
def knife(monkeypatch: pytest.MonkeyPatch) -> Knife:
    return Knife(monkeypatch)


@pytest.fixture
def new_host(tmp_path: Path) -> Callable[[], FakeHost]:
    numbers = iter(range(100000))

    def make() -> FakeHost:
        number = next(numbers)
        return FakeHost(tmp_path / f"host{number}", f"kvm{number + 1}")

    return make


@pytest.fixture
def source(new_host: Callable[[], FakeHost]) -> FakeHost:
    return new_host()


@pytest.fixture
def dest(source: FakeHost, new_host: Callable[[], FakeHost]) -> FakeHost:
    return new_host()


@pytest.fixture
def without_noreplace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system, like NFS, that does not know RENAME_NOREPLACE."""

    def unknown(old: Path, new: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument", str(old))

    monkeypatch.setattr(rename, "renameat2", unknown)


@pytest.fixture
def domain() -> Callable[..., Domain]:
    return make_domain


@pytest.fixture
def furnished() -> Callable[[FakeHost], list[Unit]]:
    """Give a host a server with everything: a directory, a disk in a pool, NVRAM, TPM state, an ISO image."""

    def furnish(host: FakeHost) -> list[Unit]:
        host.write(f"{INSTANCES}/web1/disk")
        host.write(f"{INSTANCES}/web1/disk.info", '{"disk": "raw"}', 0o600)
        host.write(f"{INSTANCES}/web1/log/console.log")
        host.write("/pool/web1-data.raw", mode=0o640)
        host.write("/isos/debian.iso")
        host.write("/var/lib/libvirt/qemu/nvram/web1_VARS.fd", mode=0o600)
        host.write(f"/var/lib/libvirt/swtpm/{UUID}/tpm2/tpm2-00.permall", mode=0o600)
        server = make_domain(
            f"{INSTANCES}/web1/disk",
            "/pool/web1-data.raw",
            Disk("sda", "/isos/debian.iso", "raw", device="cdrom", readonly=True),
            nvram="/var/lib/libvirt/qemu/nvram/web1_VARS.fd",
            tpm_state=f"/var/lib/libvirt/swtpm/{UUID}/tpm2",
        )
        units = host.units(server)
        assert [unit.kind for unit in units] == [UnitKind.OWN] * 4 + [UnitKind.SHARED]
        return units

    return furnish
