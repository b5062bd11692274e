"""What all guests boot from: the distribution's kernel and an initial RAM disk of one busybox."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path

from lab.places import CACHE
from lab.process import LabError

BUSYBOX = Path("/bin/busybox")
INIT = Path(__file__).parent / "guest-init"

# In the order in which they are loaded. What a kernel has built in, it has no module for.
MODULES = (
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "drivers/acpi/button",
    "drivers/input/evdev",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
)


@dataclass(frozen=True)
class Kernel:
    """Seen under these names by every host."""

    vmlinuz: Path
    initrd: Path


def build_kernel() -> Kernel:
    """The kernel that tools/install fetched, and its initial RAM disk; made once."""
    unpacked = CACHE / "kernel"
    vmlinuz = unpacked / "vmlinuz"
    if not vmlinuz.exists():
        raise LabError(f"no guest kernel in {unpacked}: tools/install fetches one")
    mark = hashlib.sha256(INIT.read_bytes() + os.fsencode(_modules_of(unpacked))).hexdigest()[:8]
    initrd = CACHE / f"initrd-{mark}.gz"
    if not initrd.exists():
        _build_initrd(initrd, _modules_of(unpacked))
    return Kernel(vmlinuz, initrd)


def lend_kernel(folder: Path) -> None:
    """Copy what guests boot from into *folder*, which the hosts of one lab see where the machine has the cache.

    A migration leaves marks beside the files of a guest: they must not be seen from another lab.
    """
    for file in astuple(build_kernel()):
        own = folder / file.relative_to(CACHE)
        if not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, own)


def _modules_of(unpacked: Path) -> Path:
    found = [*unpacked.glob("lib/modules/*/kernel"), *unpacked.glob("usr/lib/modules/*/kernel")]
    if not found:
        raise LabError(f"no modules below {unpacked}")
    return found[0]


def _build_initrd(initrd: Path, modules: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        root = Path(folder, "root")
        for name in ("bin", "proc", "sys", "dev", "mnt", "mods"):
            (root / name).mkdir(parents=True)
        shutil.copy2(BUSYBOX, root / "bin/busybox")
        shutil.copyfile(INIT, root / "init")
        (root / "init").chmod(0o755)
        _copy_modules(modules, root / "mods")
        # Another lab may be building the same: a rename makes it whole for either.
        finished = Path(folder, "initrd.gz")
        finished.write_bytes(gzip.compress(_archive(root), compresslevel=1))
        finished.rename(initrd)


def _copy_modules(modules: Path, target: Path) -> None:
    found = [name for name in MODULES if (modules / f"{name}.ko").exists()]
    for name in found:
        shutil.copy2(modules / f"{name}.ko", target)
    (target / "order").write_text("".join(f"{Path(name).name}.ko\n" for name in found))


def _archive(root: Path) -> bytes:
    names = "".join(f"{path.relative_to(root)}\n" for path in sorted(root.rglob("*")))
    cpio = [str(BUSYBOX), "cpio", "-o", "-H", "newc"]
    return subprocess.run(cpio, cwd=root, input=names.encode(), check=True, capture_output=True).stdout
