"""A private iSCSI target (tgt): each volume is a file, and has a target of its own with one LUN.

QEMU opens it by itself (libiscsi, Debian's package qemu-block-extra); the kernel has no part in it.
"""

import re
import signal
from collections.abc import Mapping
from pathlib import Path

from lab.services.service import Server

IQN = "iqn.2026-01.org.hostler.lab"
LUN = 1


class Tgt(Server):
    """One target daemon; its volumes and their bytes stay through `kill` and `start`. Anybody may come."""

    name = "tgt"
    needs = ("tgtd", "tgt")

    def start(self, timeout_s: float = 120) -> None:
        """Start it, and offer the volumes that there are; nothing if it runs."""
        if self.pid is not None:
            return
        super().start(timeout_s)
        self._volumes.mkdir(exist_ok=True)
        for file in sorted(self._volumes.iterdir()):
            self._offer(file.name)

    @property
    def url(self) -> str:
        """Where the volumes are, as libiscsi writes it."""
        return f"iscsi://{self.address}:{self.port}"

    def add_volume(self, name: str, size_mib: int = 64) -> str:
        """Make a volume of zeros; return where QEMU finds it."""
        with self.file(name).open("xb") as file:
            file.truncate(size_mib << 20)
        self._offer(name)
        return self.uri(name)

    def uri(self, name: str) -> str:
        """Where QEMU finds a volume."""
        return f"{self.url}/{self.target(name)}/{LUN}"

    def target(self, name: str) -> str:
        """The name of a volume's target."""
        return f"{IQN}:{name}"

    def file(self, name: str) -> Path:
        """Where the bytes of a volume are."""
        return self._volumes / name

    def disk(self, name: str, device: str) -> str:
        """Libvirt's XML of a disk that opens a volume; *device*: ``vdb``."""
        return (
            "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>"
            f"<source protocol='iscsi' name='{self.target(name)}/{LUN}'>"
            f"<host name='{self.address}' port='{self.port}'/></source>"
            f"<target dev='{device}' bus='virtio'/></disk>"
        )

    def connected(self, name: str) -> list[str]:
        """The addresses of those who are connected to a volume."""
        _, _, behind = self._admin("target", "show").partition(f": {self.target(name)}\n")
        mine, _, _ = behind.partition("\nTarget ")
        return re.findall(r"IP Address: (\S+)", mine)

    def kill(self) -> None:
        """End it at once: it is deaf to SIGTERM. What was written to a volume is in its file."""
        self._daemon.end(signal.SIGKILL)

    @property
    def _volumes(self) -> Path:
        return self.directory / "volumes"

    def _offer(self, name: str) -> None:
        """Make the target of a volume, open to anybody; its number is the next one."""
        numbers = re.findall(r"^Target (\d+):", self._admin("target", "show"), re.MULTILINE)
        number = str(max(map(int, numbers), default=0) + 1)
        self._admin("target", "new", "--tid", number, "-T", self.target(name))
        what: list[str | Path] = ["--tid", number, "--lun", str(LUN), "-b", self.file(name)]
        self._admin("logicalunit", "new", *what)
        self._admin("target", "bind", "--tid", number, "-I", "ALL")

    def _admin(self, mode: str, operation: str, *words: str | Path) -> str:
        what: list[str | Path] = ["tgtadm", "--lld", "iscsi", "--mode", mode, "--op", operation, *words]
        return self._run("env", f"TGT_IPC_SOCKET={self._socket}", *what)

    @property
    def _socket(self) -> Path:
        return self.directory / "control"

    def _prepare(self) -> None:
        """A lock that a killed one has left counts for nothing: the kernel has released it."""

    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        where = f"portal={self.address}:{self.port}"
        return ["tgtd", "-f", "--iscsi", where], {"TGT_IPC_SOCKET": self._socket}

    def _greeting(self) -> Mapping[str, object]:
        return {"state": "ready"} if "State: ready" in self._admin("sys", "show") else {}
