"""What else carries a disk: each sends *source* to *dest*, which then lies on stable storage."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.transfer.data import sync
from lab.process import wait_until
from lab.sockets import free_port, listens

CIPHER = "aes128-gcm@openssh.com"
START_S = 10.0
_PROGRAMS = {"sshd": "openssh-server", "scp": "openssh-client", "rsync": "rsync", "nbdcopy": "libnbd-bin"}

Send = Callable[[Path, Path], None]


def missing() -> list[str]:
    """Return the packages that the peers need and that are not installed."""
    return sorted(
        {package for program, package in _PROGRAMS.items() if shutil.which(program, path=_PATH) is None}
    )


_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def cp(source: Path, dest: Path) -> None:
    """The ceiling: no network at all."""
    subprocess.run(["cp", "--sparse=always", source, dest], check=True)
    sync(dest)


@dataclass(frozen=True)
class Ssh:
    """An sshd of our own on loopback, with a key of its own."""

    directory: Path
    port: int

    @property
    def words(self) -> list[str]:
        """The command that reaches it, without the host."""
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
        ]
        pairs = [word for option in options for word in ("-o", option)]
        return ["-F", "/dev/null", "-i", str(self.directory / "key"), "-c", CIPHER, *pairs]

    def scp(self, source: Path, dest: Path) -> None:
        """Nova's first way."""
        subprocess.run(
            ["scp", "-q", "-P", str(self.port), *self.words, source, f"127.0.0.1:{dest}"], check=True
        )
        sync(dest)

    def rsync(self, source: Path, dest: Path) -> None:
        """Nova's second way; holes stay holes."""
        shell = " ".join(["ssh", "-p", str(self.port), *self.words])
        subprocess.run(["rsync", "-S", "--inplace", "-e", shell, source, f"127.0.0.1:{dest}"], check=True)
        sync(dest)

    def nbdcopy(self, source: Path, dest: Path) -> None:
        """nbdcopy over four connections through one of ssh."""
        with nbdkit(dest, source) as port:
            tunnel = free_port()
            forward = ["-N", "-L", f"127.0.0.1:{tunnel}:127.0.0.1:{port}", "127.0.0.1"]
            with subprocess.Popen(["ssh", "-p", str(self.port), *self.words, *forward]) as client:
                try:
                    wait_until(lambda: listens(client.pid, tunnel), "ssh", START_S)
                    _nbdcopy(source, tunnel)
                finally:
                    client.terminate()
        sync(dest)


def nbdcopy(source: Path, dest: Path) -> None:
    """nbdcopy over four connections in plain; nothing is hashed."""
    with nbdkit(dest, source) as port:
        _nbdcopy(source, port)
    sync(dest)


def _nbdcopy(source: Path, port: int) -> None:
    url = f"nbd://127.0.0.1:{port}"
    subprocess.run(["nbdcopy", "--flush", "--connections=4", source, url], check=True)


@contextmanager
def nbdkit(dest: Path, source: Path) -> Iterator[int]:
    """Offer *dest*, made as long as *source*, on loopback; give the port."""
    with dest.open("wb") as file:
        file.truncate(source.stat().st_size)
    port, pidfile = free_port(), dest.with_suffix(".pid")
    command = ["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), "-P", str(pidfile), "file", str(dest)]
    with subprocess.Popen(command) as server:
        try:
            wait_until(pidfile.exists, "nbdkit", START_S)
            yield port
        finally:
            server.terminate()
    pidfile.unlink(missing_ok=True)


@contextmanager
def ssh(directory: Path) -> Iterator[Ssh]:
    """Run an sshd that lets this user in by a key that is made for it, and ends with the block."""
    directory.mkdir(mode=0o700)
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    (directory / "authorized").write_text((directory / "key.pub").read_text())
    port = free_port()
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": directory / "host",
        "AuthorizedKeysFile": directory / "authorized",
        "PidFile": directory / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "Ciphers": CIPHER,
        "Subsystem": "sftp internal-sftp",
    }
    (directory / "config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with subprocess.Popen(
        [shutil.which("sshd", path=_PATH) or "sshd", "-D", "-f", directory / "config"]
    ) as server:
        try:
            wait_until(lambda: listens(server.pid, port), "sshd", START_S)
            yield Ssh(directory, port)
        finally:
            server.terminate()
