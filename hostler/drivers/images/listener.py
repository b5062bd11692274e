"""The socket that a receiver listens on: made here, handed to nbdkit, open to one peer."""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_NET_HEADER = 0xFFF00000  # SKF_NET_OFF of linux/filter.h: offsets count from the IP header
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_KEEP, _DROP = 0xFFFFFFFF, 0


def listen(address: str, port: int, peer: str) -> socket.socket:
    """Return a socket that listens on *address* and sees packets of *peer* only.

    The kernel drops everything else, from the first packet on. nbdkit's own ``ip`` filter would do, but
    Debian 12 builds it without ``inet_pton``: it understands no address at all.
    """
    if ipaddress.ip_address(address).version != ipaddress.ip_address(peer).version:
        raise OSError(f"{peer} cannot reach {address}: one is IPv4, the other IPv6")
    family = socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        _admit_only(sock, peer)
        sock.listen(64)
    except BaseException:
        sock.close()
        raise
    return sock


def _admit_only(sock: socket.socket, peer: str) -> None:
    """Attach a classic BPF program that compares the source address; accepted sockets inherit it."""
    packed = ipaddress.ip_address(peer).packed
    start = _NET_HEADER + (12 if len(packed) == 4 else 8)
    words = struct.unpack(f"!{len(packed) // 4}I", packed)
    program = []
    for number, word in enumerate(words):
        to_drop = 2 * (len(words) - 1 - number) + 1
        program += [(_LOAD, 0, 0, start + 4 * number), (_JUMP_IF_EQUAL, 0, to_drop, word)]
    program += [(_RETURN, 0, 0, _KEEP), (_RETURN, 0, 0, _DROP)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code))
    )
