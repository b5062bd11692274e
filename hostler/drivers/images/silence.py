"""When a peer that says nothing is gone, and when it only has a slow disk."""

from __future__ import annotations

import socket
import struct

#: A peer whose network stack acknowledges nothing for that long is gone.
SILENCE_MS = 15_000
#: linux/tcp.h, tcp_info: retransmissions and probes of a row, segments not acknowledged, milliseconds since the last
#: acknowledgement.
_TCP_INFO = struct.Struct("=2xBB20xI28xI")


class Silence:
    """Has the kernel break a connection whose peer is gone.

    A peer whose disk stalls stops reading; what is on its way fills its memory, and it lets nothing more be sent. It
    is alive: its network stack answers the kernel's probes. Yet the kernel counts such a time as silence
    (TCP_USER_TIMEOUT, tcp(7)): so that is switched off for as long as all that has left is acknowledged.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._patient = False

    def watch(self) -> None:
        """Begin. The socket is connected."""
        self._set(socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 2)):
            self._set(option, seconds)
        self._set(socket.TCP_USER_TIMEOUT, SILENCE_MS)

    def look(self) -> None:
        """See whether the peer is slow or silent. Called several times a second while it is waited for."""
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        _, probes, unacknowledged, since_ms = _TCP_INFO.unpack(info)
        # the second probe in a row that nobody answers: it is no longer slow
        silent = unacknowledged or (probes > 1 and since_ms > SILENCE_MS)
        self._be(patient=not silent)

    def answered(self) -> None:
        """All is answered: a call that waits for one answer and does not look comes next."""
        self._be(patient=False)

    def _be(self, *, patient: bool) -> None:
        if self._patient != patient:
            self._patient = patient
            self._set(socket.TCP_USER_TIMEOUT, 0 if patient else SILENCE_MS)

    def _set(self, option: int, value: int) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, option, value)
