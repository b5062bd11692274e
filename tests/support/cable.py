"""A cable between a worker and a server that can be pulled out and put back."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Cable:
    """A TCP proxy at the address *listen*: pulled out, it resets every connection and takes no new one."""

    def __init__(self, host: str, port: int, listen: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._plugged = True
        self._listening = socket.create_server((listen, 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.pull()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def pull(self) -> None:
        """Cut it."""
        with self._lock:
            self._plugged = False
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def plug(self) -> None:
        """Heal it."""
        with self._lock:
            self._plugged = True

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self._lock:
            if not self._plugged:
                near.close()
                far.close()
                return
            self._sockets |= {near, far}
        open_ends = [near, far]
        for one, other in ((near, far), (far, near)):
            thread = threading.Thread(target=self._pump, args=(one, other, open_ends), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pump(self, one: socket.socket, other: socket.socket, open_ends: list[socket.socket]) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with self._lock:
            for end in (one, other):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            open_ends.remove(one)
            if not open_ends:
                for end in (one, other):
                    self._sockets.discard(end)
                    end.close()
