"""The disks of guests, as operators have them: booting, layered with a snapshot, huge with holes.

Each is made inside the host that will own it, by its own name there.
"""

import os
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.host import Host
from lab.process import run

MIB = 1024 * 1024
#: What a disk begins with on which a guest is to note, at each boot, the number of that boot: ``NOTES=vdb:1``.
NOTEBOOK = b"NOTEBOOK".ljust(512, b"\0")


@dataclass(frozen=True)
class Disk:
    """What a disk of a guest shall be; the guest's first is the one that it boots from."""

    #: boot: 64 MiB, ext4, with the guest's marker. empty: nothing on it. sparse: random data between holes. swap: swap.
    kind: Literal["boot", "empty", "sparse", "swap"] = "boot"
    format: Literal["qcow2", "raw"] = "qcow2"
    size_mib: int = 64
    #: Of a sparse disk: how much of it is data, in pieces of 1 MiB.
    data_mib: int = 0
    #: Put what is on the disk into a backing file that belongs to the host (qcow2 only).
    backed: bool = False
    #: Name of an internal snapshot to take (qcow2 only).
    snapshot: str | None = None
    #: Its file is called ``disk.<this>`` in a directory of the guest's own: as Nova calls it, not by its number.
    suffix: str = ""
    #: Of a swap disk: what the guest knows it by.
    swap_uuid: str = ""


#: 20 GiB of which 1 GiB is data: what a copy that does not know holes takes minutes for.
SPARSE = Disk(kind="sparse", format="raw", size_mib=20 * 1024, data_mib=1024)
#: qcow2 on a backing file, with an internal snapshot.
LAYERED = Disk(backed=True, snapshot="before")


def make_disk(host: Host, disk: Disk, path: Path, backing: Path, marker: str) -> None:
    """Make *disk* at *path* in the host; a backed one gets *backing* below it."""
    host.path(path.parent).mkdir(parents=True, exist_ok=True)
    raw = path.with_name(f"{path.name}.raw") if disk.format == "qcow2" else path
    host.run(["truncate", "-s", f"{disk.size_mib}M", raw])
    if disk.kind == "boot":
        _write_file_system(host.path(raw), marker)
    if disk.kind == "sparse":
        write_pieces(host.path(raw), disk)
    if disk.kind == "swap":
        host.run(["mkswap", "-q", "-L", "swap", "-U", disk.swap_uuid, raw])
    if disk.format == "qcow2":
        _convert(host, disk, raw, path, backing)


def write_pieces(path: Path, disk: Disk) -> None:
    """Scatter the disk's data over it, each piece with different bytes; the same places each time.

    No piece gets smaller when it is packed: a copy takes as long as its bytes say.
    """
    noise = os.urandom(MIB)
    places = random.Random(disk.size_mib).sample(range(disk.size_mib), disk.data_mib)
    with path.open("r+b") as image:
        for place in sorted(places):
            image.seek(place * MIB)
            turn = place * 4099 % MIB
            image.write(noise[turn:] + noise[:turn])


def _write_file_system(image: Path, marker: str) -> None:
    with tempfile.TemporaryDirectory() as content:
        Path(content, "marker").write_text(f"{marker}\n")
        run(["mkfs.ext4", "-q", "-F", "-d", content, image])


def _convert(host: Host, disk: Disk, raw: Path, path: Path, backing: Path) -> None:
    bottom = backing if disk.backed else path
    host.path(bottom.parent).mkdir(parents=True, exist_ok=True)
    host.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, bottom])
    host.path(raw).unlink()
    if disk.backed:
        host.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", bottom, path])
    if disk.snapshot is not None:
        host.run(["qemu-img", "snapshot", "-c", disk.snapshot, path])
