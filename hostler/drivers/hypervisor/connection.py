"""The one connection to libvirt: opened when needed, watched by keepalives, with its events.

libvirt's own event loop runs in a daemon thread, once per process, and must run before the connection opens.
Listeners are called from a second thread: whoever calls libvirt from the first delays its keepalives.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import libvirt

from hostler import errors

LOG = logging.getLogger(__name__)

KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3

#: Makes the error to raise from libvirt's own sentence.
Failure = Callable[[str], errors.HostlerError]

_loop_lock = threading.Lock()
_loop_threads: list[threading.Thread] = []


def _start_event_loop() -> None:
    with _loop_lock:
        if not _loop_threads:
            libvirt.registerErrorHandler(lambda *_: None, None)  # else each error is also written to stderr
            libvirt.virEventRegisterDefaultImpl()
            _loop_threads.append(threading.Thread(target=_run_events, name="libvirt-events", daemon=True))
            _loop_threads[0].start()


def _run_events() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except Exception:
            LOG.exception("libvirt's event loop")
            time.sleep(0.1)


class Changes:
    """Counts the changes of domains, so that a waiter can miss none."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.count = 0

    def add(self) -> None:
        """Wake every waiter."""
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout_s: float) -> None:
        """Wait until there are more than the *seen* ones."""
        with self._condition:
            self._condition.wait_for(lambda: self.count != seen, timeout_s)


class Connection:
    """A connection that comes back by itself: a call that finds it closed opens it again.

    *open_timeout_s* bounds how long one call tries to; then it is :class:`hostler.errors.ServerUnreachable`.
    """

    def __init__(
        self,
        uri: str,
        *,
        open_timeout_s: float = 10.0,
        keepalive_s: int = KEEPALIVE_INTERVAL_S,
    ) -> None:
        self.uri = uri
        self.changes = Changes()
        self._open_timeout_s = open_timeout_s
        self._keepalive_s = keepalive_s
        self._lock = threading.Lock()
        self._connection: Any = None
        self._attempt: _Attempt | None = None
        self._listeners: list[Callable[[str], None]] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._dispatcher: threading.Thread | None = None
        self._closing = threading.Event()

    @contextlib.contextmanager
    def calls(
        self, failure: Failure = lambda reason: errors.MigrationError(f"libvirt: {reason}")
    ) -> Iterator[Any]:
        """Give the connection for a few calls; what libvirt refuses is raised as *failure* makes it.

        A connection that breaks on the way is :class:`hostler.errors.ServerUnreachable`, and so is a domain
        that somebody else's call holds for longer than libvirt waits (30 s).
        """
        connection = self._current()
        try:
            yield connection
        except libvirt.libvirtError as error:
            reason = str(error)
            if _is_lost(connection, error) or error.get_error_code() == libvirt.VIR_ERR_OPERATION_TIMEOUT:
                raise self._unreachable(reason) from error
            raise failure(reason) from error

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call *listener* with the UUID of each domain that changes, with ``""`` now and at each connect."""
        with self._lock:
            self._listeners.append(listener)
            if self._dispatcher is None:
                self._dispatcher = threading.Thread(
                    target=self._dispatch, name="libvirt-listeners", daemon=True
                )
                self._dispatcher.start()
            # events come only from an open connection, and opening it tells everybody
            self._queue.put(None if self._connection is None else "")

    def close(self) -> None:
        """Let go of the connection and end the thread of the listeners."""
        self._closing.set()
        self._queue.put(None)
        if self._dispatcher not in (None, threading.current_thread()):
            self._dispatcher.join(timeout=self._open_timeout_s)
        with self._lock:
            self._discard()

    def _current(self) -> Any:
        with self._lock:
            if self._connection is None or not self._connection.isAlive():
                self._discard()
                self._connection = self._open()
            return self._connection

    def _open(self) -> Any:
        _start_event_loop()
        deadline = time.monotonic() + self._open_timeout_s
        pause_s = 0.1
        while True:
            if self._attempt is None:
                self._attempt = _Attempt(self.uri)
            result = self._attempt.result(deadline - time.monotonic())
            if result is None:
                raise self._unreachable(f"no answer for {self._open_timeout_s:g} s")
            self._attempt = None
            if not isinstance(result, libvirt.libvirtError):
                return self._prepare(result)
            if time.monotonic() + pause_s > deadline or self._closing.wait(pause_s):
                raise self._unreachable(str(result))
            pause_s = min(2 * pause_s, 1.0)

    def _prepare(self, connection: Any) -> Any:
        try:
            with contextlib.suppress(libvirt.libvirtError):  # a driver within the process has no keepalive
                connection.setKeepAlive(self._keepalive_s, KEEPALIVE_COUNT)
            connection.registerCloseCallback(self._on_close, None)
            connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None
            )
        except libvirt.libvirtError as error:
            raise self._unreachable(str(error)) from error
        self._tell("")
        return connection

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                connection.unregisterCloseCallback()
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()

    def _on_close(self, _connection: Any, reason: int, _opaque: object) -> None:
        LOG.warning("libvirt at %s closed the connection (reason %s)", self.uri, reason)
        self.changes.add()
        self._queue.put(None)

    def _on_lifecycle(
        self, _connection: Any, domain: Any, _event: int, _detail: int, _opaque: object
    ) -> None:
        self._tell(domain.UUIDString())

    def _tell(self, uuid: str) -> None:
        self.changes.add()
        if self._dispatcher is not None:
            self._queue.put(uuid)

    def _dispatch(self) -> None:
        while not self._closing.is_set():
            try:
                uuid = self._queue.get(timeout=self._keepalive_s)
            except queue.Empty:
                uuid = None
            if uuid is not None:
                self._call_listeners(uuid)
            elif not self._closing.is_set():
                with contextlib.suppress(errors.ServerUnreachable):
                    self._current()

    def _call_listeners(self, uuid: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(uuid)
            except Exception:
                LOG.exception("a listener for domain %r", uuid)

    def _unreachable(self, reason: str) -> errors.ServerUnreachable:
        return errors.ServerUnreachable(what="libvirt", where=self.uri, reason=reason)


class _Attempt:
    """An attempt to open a connection, in a thread: a hung libvirtd would keep it for ever."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._result: Any = None
        self._thread = threading.Thread(target=self._run, name="libvirt-open", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = libvirt.open(self._uri)
        except libvirt.libvirtError as error:
            self._result = error

    def result(self, timeout_s: float) -> Any:
        """Return the connection, libvirt's error, or None if there is neither in time."""
        self._thread.join(max(timeout_s, 0))
        return self._result


def _is_lost(connection: Any, error: libvirt.libvirtError) -> bool:
    return error.get_error_domain() == libvirt.VIR_FROM_RPC or not connection.isAlive()
