"""Which QEMU processes of this host have a network volume open, seen without asking libvirt."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostler.drivers.volumes.addresses import Address, addresses
from hostler.objects import Volume

PROC = Path("/proc")
#: What a block device of each kind is made of, in the order in which libvirt writes it as the volume's name.
PARTS = (
    ("pool", "namespace", "image"),
    ("target", "lun"),
    ("volume", "path"),
    ("export",),
    ("path",),
    ("vdi",),
)


def holders(volume: Volume, proc: Path = PROC) -> list[int]:
    """Return the QEMU processes whose command line opens *volume*, sorted.

    A volume that was plugged into a running guest is not on its command line; a guest of ours is known by its
    UUID, and has ended when its volumes are let go.
    """
    return sorted(
        int(entry.name)
        for entry in proc.iterdir()
        if entry.name.isdigit() and any(_is(volume, node) for node in _block_nodes(entry / "cmdline"))
    )


def _block_nodes(cmdline: Path) -> Iterator[dict[str, Any]]:
    """Return the block devices that a process was started with, as libvirt writes them: as JSON."""
    try:
        words = cmdline.read_bytes().split(b"\0")
    except OSError:  # it ended while we were looking
        return
    for flag, value in itertools.pairwise(words):
        if flag != b"-blockdev" or not value.startswith(b"{"):
            continue
        try:
            node = json.loads(value)
        except ValueError:
            continue
        while isinstance(node, dict):
            yield node
            node = node.get("file")


def _is(volume: Volume, node: dict[str, Any]) -> bool:
    if node.get("driver") != volume.protocol:
        return False
    names = {"/".join(str(node[key]) for key in keys if key in node) for keys in PARTS if keys[-1] in node}
    server = node.get("server")
    if volume.protocol == "nbd" and isinstance(
        server, dict
    ):  # an export's name says nothing without its server
        return volume.name == node.get("export", "") and _address(server) in addresses(volume)
    return volume.name in names or f"{volume.name}/0" in names


def _address(server: dict[str, Any]) -> Address:
    return str(server["path"]) if "path" in server else (str(server.get("host")), int(server.get("port", 0)))
