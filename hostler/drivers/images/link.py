"""One NBD connection to a receiver, with its errors sorted into *broken* and *refused*."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostler import errors
from hostler.drivers.images.silence import Silence
from hostler.drivers.images.x509 import HINT
from hostler.objects import ReceiverAddress

CONNECT_PATIENCE_S = 10.0
#: How long a connection waits for an answer before it looks whether it has to stop.
LOOK_S = 0.2
#: A reply of the server that means "I am going down", not "this write failed".
_GOING_DOWN = errno.ESHUTDOWN
WORDS = {
    errno.ENOSPC: "no space left on the destination",
    errno.EIO: "the destination's disk reports an input/output error",
    errno.EDQUOT: "the destination's disk quota is exceeded",
    errno.EPERM: "the destination does not let the file be written",
    errno.EROFS: "the destination's file system is read-only",
}


class Broken(Exception):
    """The connection is gone, or could not be made; another one may do."""


class NoSuchExport(Broken):
    """The receiver is there and does not offer that name."""


class NoAnswer(Broken):
    """Nobody answers there: a firewall drops it, or the network is gone."""


def _nothing() -> None:
    """Nobody asks for that answer."""


class Link:
    """A connection to one export. :meth:`cut` may be called from any thread; the rest from one."""

    def __init__(self, address: ReceiverAddress, name: str, key_file: Path | None, path: str) -> None:
        """*key_file*: a directory with certificates where the address asks for them."""
        self._address = address
        self._name = name
        self._key_file = key_file
        self._path = path  #: what errors are about
        self._nbd = _binding(path)
        self._handle: Any = None
        self.answers = 0  #: how many requests on their way were answered
        self._refused = 0  #: the first error that a request on its way was answered with
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._silence = Silence(self._socket)

    def connect(self) -> None:
        """Connect, prove the key and choose the export; :class:`Broken` if that does not work now."""
        handle = self._nbd.NBD()
        handle.set_export_name(self._name)
        if self._key_file is not None:
            handle.set_tls(self._nbd.TLS_REQUIRE)
            if self._address.certified:
                handle.set_tls_certificates(str(self._key_file))
                handle.set_tls_verify_peer(True)
            else:
                handle.set_tls_psk_file(str(self._key_file))
                handle.set_tls_username(self._address.username)
        handle.add_meta_context(self._nbd.CONTEXT_BASE_ALLOCATION)
        handle.set_opt_mode(True)
        try:
            (self._connect_by_name if self._address.certified else self._connect_socket)(handle)
            handle.opt_go()
        except (OSError, self._nbd.Error) as error:
            refused = isinstance(error, self._nbd.Error) and error.errnum == errno.ENOENT
            self._refuse_certificate(str(error))
            if isinstance(error, TimeoutError):
                raise NoAnswer(str(error)) from error
            raise NoSuchExport(str(error)) if refused else Broken(str(error)) from error
        self._handle = handle

    def _connect_socket(self, handle: Any) -> None:
        self._socket.settimeout(CONNECT_PATIENCE_S)
        self._socket.connect((self._address.host, self._address.port))
        self._socket.settimeout(None)
        self._silence.watch()
        handle.connect_socket(self._socket.dup().detach())

    def _connect_by_name(self, handle: Any) -> None:
        """Connect so that libnbd knows the name in the certificate: of a socket that it is given it checks nothing."""
        handle.aio_connect_tcp(self._address.host, str(self._address.port))
        self._socket.close()
        self._socket = socket.socket(fileno=os.dup(handle.aio_get_fd()))
        self._silence = Silence(self._socket)
        self._silence.watch()
        self._wait_for_answer(handle)
        while not handle.aio_is_negotiating():
            handle.poll(-1)

    def _wait_for_answer(self, handle: Any) -> None:
        """Let libnbd connect; the kernel alone would go on asking for minutes."""
        deadline = time.monotonic() + CONNECT_PATIENCE_S
        while not handle.aio_is_negotiating() and not self._has_peer():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("timed out")
            handle.poll(max(1, int(left_s * 1000)))

    def _has_peer(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self._socket.getpeername())
        return False

    def _refuse_certificate(self, said: str) -> None:
        """Raise if trying again is of no use."""
        if "certificate verification" in said:
            host = self._address.host
            reason = f"what {host} shows is not its certificate, not of our CA, or not valid today: {said}"
            raise errors.ImageTransferError(path=self._path, reason=reason, hint=HINT)
        if "key do not match" in said:
            reason = f"this host's key is another one than when its copy began: {said}"
            raise errors.ImageTransferError(path=self._path, reason=reason, hint=HINT)

    def cut(self) -> None:
        """Wake whoever waits for the peer: its call ends as :class:`Broken`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection, politely if it is still there."""
        if self._handle is not None and self._handle.aio_is_ready() and not self._handle.aio_in_flight():
            with contextlib.suppress(self._nbd.Error):
                self._handle.shutdown()
        self._handle = None
        self._socket.close()

    @property
    def size_bytes(self) -> int:
        """How long the export is."""
        return int(self._handle.get_size())

    def read(self, length: int, offset: int) -> bytes:
        """Return what the receiver has there."""
        with self._sorted_errors():
            return bytes(self._handle.pread(length, offset))

    def write(self, view: memoryview, offset: int) -> None:
        """Write; it may still be in the receiver's memory afterwards."""
        with self._sorted_errors():
            self._handle.pwrite(view, offset)

    def zero(self, length: int, offset: int) -> None:
        """Make a range read as zeros, as a hole where the file system can."""
        with self._sorted_errors():
            self._handle.zero(length, offset)

    def send(self, view: memoryview, offset: int, done: Callable[[], None] = _nothing) -> None:
        """Put a write on its way; *view* stays as it is until *done* is called, in :meth:`turn`."""
        with self._sorted_errors():
            self._handle.aio_pwrite(view, offset, self._answer(done))

    def send_zeros(self, length: int, offset: int, done: Callable[[], None]) -> None:
        """Put on its way that a range is to read as zeros, as a hole where the file system can."""
        with self._sorted_errors():
            self._handle.aio_zero(length, offset, self._answer(done))

    def turn(self, longest_s: float) -> None:
        """Let what is on its way leave, and answers come in; wait for one, at most *longest_s*.

        What the destination did not do is raised here, as of the calls that wait for their answer.
        """
        before, end = self.answers, time.monotonic() + longest_s
        with self._sorted_errors():
            while self.answers == before:  # libnbd comes back whenever a little has left
                left_s = max(0.0, end - time.monotonic())
                self._handle.poll(int(left_s * 1000))
                if not left_s:
                    break
        self.checked(silent=longest_s > 0 and self.answers == before)

    def awaits(self) -> tuple[int, int]:
        """Return what :meth:`turn` waits for: a descriptor, and events as :func:`select.poll` has them."""
        with self._sorted_errors():
            direction = self._handle.aio_get_direction()
            reads = select.POLLIN if direction & self._nbd.AIO_DIRECTION_READ else 0
            writes = select.POLLOUT if direction & self._nbd.AIO_DIRECTION_WRITE else 0
            return int(self._handle.aio_get_fd()), reads | writes

    def let(self, events: int) -> None:
        """Go on, now that some of what it awaits has come."""
        with self._sorted_errors():
            direction = self._handle.aio_get_direction()
            if events & ~select.POLLOUT and direction & self._nbd.AIO_DIRECTION_READ:
                self._handle.aio_notify_read()
            elif events & ~select.POLLIN and direction & self._nbd.AIO_DIRECTION_WRITE:
                self._handle.aio_notify_write()

    def checked(self, *, silent: bool) -> None:
        """Raise what the destination did not do; *silent*: it was waited for, and said nothing."""
        if silent:
            self._silence.look()
        self._check()

    def land(self, go_on: Callable[[], None]) -> None:
        """Wait until all is answered; *go_on*, called meanwhile, raises if nobody wants to wait any longer."""
        while self._handle.aio_in_flight():
            go_on()
            self.turn(LOOK_S)
        self._check()
        self._silence.answered()

    def _check(self) -> None:
        if self._refused:
            raise self._sorted(self._refused, os.strerror(self._refused))

    def flush(self, go_on: Callable[[], None]) -> None:
        """See everything that was written over this connection on stable storage; *go_on* as for :meth:`land`."""
        with self._sorted_errors():
            self._handle.aio_flush(self._answer(_nothing))
        self.land(go_on)

    def _answer(self, done: Callable[[], None]) -> Callable[[Any], int]:
        def take(error: Any) -> int:
            self.answers += 1
            if error.value:
                self._refused = self._refused or error.value
            else:
                done()
            return 1  # libnbd need not keep it until it is asked

        return take

    def data_extents(self, stop: int) -> Iterator[tuple[int, int]]:
        """Yield begin and end of what may be other than zeros at the receiver, up to *stop*, ascending."""
        if not self._handle.can_meta_context(self._nbd.CONTEXT_BASE_ALLOCATION):
            yield 0, stop
            return
        position = 0
        while position < stop:
            for length, flags in self._status(min(stop - position, 1 << 31), position):
                if not flags & self._nbd.STATE_ZERO:
                    yield position, min(position + length, stop)
                position += length

    def _status(self, length: int, offset: int) -> list[tuple[int, int]]:
        found: list[int] = []

        def take(_context: str, _offset: int, entries: list[int], _error: Any) -> int:
            found.extend(entries)
            return 0

        with self._sorted_errors():
            self._handle.block_status(length, offset, take)
        return list(zip(found[::2], found[1::2], strict=True))

    @contextlib.contextmanager
    def _sorted_errors(self) -> Iterator[None]:
        try:
            yield
        except self._nbd.Error as error:
            raise self._sorted(error.errnum, error.string) from error

    def _sorted(self, number: int, said: str) -> Exception:
        if self._handle.aio_is_dead() or self._handle.aio_is_closed() or number == _GOING_DOWN:
            return Broken(said)
        reason = WORDS.get(number, f"the destination answers: {said}")
        return errors.ImageTransferError(path=self._path, reason=reason)


def _binding(path: str) -> Any:
    try:
        import nbd
    except ImportError as error:
        reason = "libnbd's Python binding is not installed (Debian: python3-libnbd)"
        raise errors.ImageTransferError(path=path, reason=reason) from error
    return nbd


class Outage:
    """How long nothing has got through. Shared by the connections of one copy."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since: float | None = None
        self._lock = threading.Lock()

    def over(self) -> None:
        """Something got through."""
        self._since = None

    def went_on(self, path: str, broken: Broken) -> None:
        """Note a failure; :class:`hostler.errors.ImageTransferError` once it has lasted too long."""
        with self._lock:
            now = time.monotonic()
            self._since = self._since or now
            lasted = now - self._since
        if lasted >= self._timeout_s:
            reason = f"no connection to the receiver for {lasted:.0f} s; the last attempt said: {broken}"
            raise errors.ImageTransferError(path=path, reason=reason)
