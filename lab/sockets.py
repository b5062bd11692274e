"""Free ports, and proof that it is our own process that listens on one."""

import os
import random
import socket
from pathlib import Path


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on, below the range from which outgoing connections take theirs."""
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        return port
    raise OSError(f"no free port between 20000 and 32000 on {address}")


def listens(pid: int, port: int) -> bool:
    """Whether *pid* itself listens on TCP *port*, in its own network namespace."""
    try:
        listening = _listening_sockets(pid, port)
        return bool(listening) and not listening.isdisjoint(_open_sockets(pid))
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return False


def _listening_sockets(pid: int, port: int) -> set[str]:
    """Inodes of the listening sockets on *port* (a row of /proc/net/tcp: number, local, peer, state, ...)."""
    rows = []
    for family in ("tcp", "tcp6"):
        table = Path(f"/proc/{pid}/net/{family}")
        rows += [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else []
    return {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}


def _open_sockets(pid: int) -> set[str]:
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)  # noqa: PTH115 - the target is no path: socket:[12345]
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    return inodes
