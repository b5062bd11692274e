"""What the fake hypervisor runs, and what it leaves on its disks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hostler.drivers.hypervisor.domain_xml import state_paths
from hostler.objects import Domain, PowerState, Snapshot


@dataclass
class FakeGuest:
    """One domain: its definition, and the guest that runs."""

    xml: str  #: what runs, or would
    persistent: bool
    state: PowerState = PowerState.SHUTDOWN
    autostart: bool = False
    snapshots: list[Snapshot] = field(default_factory=list)
    executing: bool = False  #: it has executed since it was created


class Journal:
    """A boot hook: the guest appends a line to each of its disks, so that a test sees who ran where."""

    def __init__(self, host: str, root: Path) -> None:
        self._host = host
        self._root = root

    def __call__(self, domain: Domain) -> None:
        for disk in domain.disks:
            if disk.device == "disk" and not disk.readonly:
                with under(self._root, disk.path).open("ab") as file:
                    file.write(f"booted {domain.name} on {self._host}\n".encode())


def under(root: Path, path: str) -> Path:
    """Return where the absolute *path* of a fake host lies under *root*."""
    return root / path.lstrip("/")


def make_state(root: Path, domain: Domain) -> None:
    """Make UEFI variables and TPM state where there are none, as libvirt does."""
    for path in state_paths(domain):
        place = under(root, path)
        if not place.exists():
            file = place / "tpm2/tpm2-00.permall" if path == domain.tpm_state else place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"made here")


def files_of(domain: Domain) -> list[str]:
    """Return every file without which QEMU does not start."""
    images = [path for disk in domain.disks for path in (disk.path, *disk.backing)]
    return [*images, *domain.firmware, *domain.boot_files]
