"""Where the servers of a network volume listen."""

from __future__ import annotations

from hostler.objects import Volume

#: TCP ports of the protocols, where a definition names none. Ceph's monitors listen at one of two, or both.
DEFAULT_PORTS = {
    "ftp": (21,),
    "ftps": (990,),
    "gluster": (24007,),
    "http": (80,),
    "https": (443,),
    "iscsi": (3260,),
    "nbd": (10809,),
    "nfs": (2049,),
    "rbd": (3300, 6789),
    "sheepdog": (7000,),
    "ssh": (22,),
    "vxhs": (9999,),
}

#: Name and TCP port, or the path of a socket.
Address = tuple[str, int] | str


def addresses(volume: Volume) -> list[Address]:
    """Return where the servers of *volume* take connections.

    One that is spoken to by UDP is left out. Where the definition names none there is none: the client finds
    its own way, as librbd does by ``ceph.conf``.
    """
    return [address for server in volume.hosts for address in _of_server(volume.protocol, server)]


def _of_server(protocol: str, server: str) -> list[Address]:
    if server.startswith("/"):
        return [server]
    name, port = split(server)
    return [(name, number) for number in ((port,) if port else DEFAULT_PORTS.get(protocol, ()))]


def split(server: str) -> tuple[str, int | None]:
    """Split ``name:port``, ``[::1]:port``, ``::1`` or ``name``."""
    if server.startswith("["):
        name, _, port = server[1:].partition("]")
        return name, int(port[1:]) if port[1:].isdecimal() else None
    if server.count(":") == 1:
        name, port = server.split(":")
        return name, int(port) if port.isdecimal() else None
    return server, None
