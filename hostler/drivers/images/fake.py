"""Receiver, sender and verifier without a network: files are copied between two roots of this machine.

Records, keys, manifests, checks and errors are the real ones. What a connection would be is a file in a
directory that both ends know: so it works between processes, too, and goes away like a killed nbdkit.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hostler.drivers import devices
from hostler.drivers.images import Checkpoint, ProgressListener, extents, ledger, manifest, state
from hostler.drivers.images.link import WORDS, Broken, NoSuchExport, Outage
from hostler.drivers.images.mending import Mender
from hostler.drivers.images.outgoing import Outgoing
from hostler.drivers.images.pace import Pace
from hostler.drivers.images.receiver import NbdReceiver
from hostler.drivers.images.recorded import Receiving
from hostler.drivers.images.verifier import DiskVerifier
from hostler.objects import ImageDigest, ReceiverAddress

RETRY_PAUSE_S = 0.02


@dataclass
class Faults:
    """What goes wrong, and after how many bytes of one :meth:`FakeSender.send`; each once."""

    break_after_bytes: int | None = None  #: the connection breaks
    no_space_after_bytes: int | None = None  #: the destination's disk is full
    flip_bit_at: tuple[str, int] | None = None  #: export and offset: arrives damaged
    unreachable: bool = False  #: no connection can be made, until it is set back
    pause_s: float = 0.0  #: after each block


class FakeReceiver(NbdReceiver):
    """A receiver whose files lie under *root*; *network* is the directory that it shares with its senders."""

    def __init__(
        self,
        state_dir: Path | str,
        run_dir: Path | str,
        address: str,
        ports: tuple[int, int],
        *,
        network: Path | str,
        root: Path | str = "/",
    ) -> None:
        super().__init__(state_dir, run_dir, address, ports)
        self._network = state.private_directory(Path(network))
        self._root = Path(root)

    def kill(self, migration: str) -> None:
        """Let it die as nbdkit would: the record stays."""
        record = self._recorded(migration)
        if record and self._runs(record):
            _plug(self._network, self._address, record.port).unlink()

    def _local(self, path: str) -> Path:
        return under(self._root, path)

    def _runs(self, record: Receiving) -> bool:
        plugged = _read(_plug(self._network, self._address, record.port))
        return plugged is not None and plugged["username"] == record.migration

    def _end(self, migration: str) -> None:
        self.kill(migration)

    def _start(self, record: Receiving, ports: Iterable[int]) -> Receiving:
        self._end(record.migration)
        self._link_exports(record)
        for port in dict.fromkeys(ports):
            if not _plug(self._network, self._address, port).exists():
                record = dataclasses.replace(record, port=port)
                self._record(record)
                self._plug_in(record)
                return record
        raise self._unavailable("Address already in use")

    def _plug_in(self, record: Receiving) -> None:
        facts = {"username": record.migration, "key": self._key(record.migration), "peer": record.peer}
        facts["exports"] = str(self._exports_dir(record.migration))
        state.write_private(_plug(self._network, self._address, record.port), json.dumps(facts))


class FakeSender:
    """A sender at *address* whose files lie under *root*. *faults* and *shown* may be changed while it sends."""

    def __init__(self, *, network: Path | str, address: str = "127.0.0.1", root: Path | str = "/") -> None:
        self._network = Path(network)
        self._own_address = address
        self._root = Path(root)
        self.faults = Faults()
        self.shown = ""  #: the certificate of its host

    def send(
        self,
        address: ReceiverAddress,
        progress: ProgressListener,
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> list[ImageDigest]:
        """Send every export of *address*, no faster than *pace*; return what left, in the order of the exports."""
        files: list[Outgoing] = []
        try:
            for export in address.exports:
                local = str(under(self._root, export.source))
                files.append(Outgoing(dataclasses.replace(export, source=local)))
            outage = Outage(timeout_s)
            for file in files:
                _FakeCopy(self, address, file, outage, pace or Pace()).run(progress, checkpoint)
            digests = [file.digest() for file in files]
            pairs = zip(digests, address.exports, strict=True)
            return [dataclasses.replace(digest, path=export.source) for digest, export in pairs]
        finally:
            for file in files:
                file.close()

    def certificate(self) -> str:
        """Return *shown*."""
        return self.shown

    def mend(
        self,
        address: ReceiverAddress,
        left: Sequence[ImageDigest],
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> int:
        """See that the destination's disk holds what *left*; return how many blocks were sent again."""
        mender = Mender(partial(self._linked, address), checkpoint, Outage(timeout_s), pace or Pace())
        mended = 0
        for export, digest in zip(address.exports, left, strict=True):
            local = dataclasses.replace(export, source=str(under(self._root, export.source)))
            with closing(Outgoing(local)) as file:
                mended += mender.mend(file, digest)
        return mended

    @contextmanager
    def _linked(self, address: ReceiverAddress, name: str, file: Outgoing) -> Iterator[_FakeLink]:
        exports = self.connect(address)
        try:
            fd = os.open(exports / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NoSuchExport(f"no export {name}") from error
        try:
            yield _FakeLink(fd)
        except OSError as error:
            raise file.failed(WORDS.get(error.errno or 0, str(error))) from error
        finally:
            os.close(fd)

    def connect(self, address: ReceiverAddress) -> Path:
        """Return the directory with the receiver's exports, or raise :class:`Broken`."""
        plugged = _read(_plug(self._network, address.host, address.port))
        if self.faults.unreachable or plugged is None:
            raise Broken("connection refused")
        if plugged["peer"] != self._own_address:
            raise Broken("timed out")
        if (plugged["username"], plugged["key"]) != (address.username, address.key):
            raise Broken("TLS handshake failed")
        return Path(plugged["exports"])


@dataclass(frozen=True)
class _FakeLink:
    """An export that is a file of this machine."""

    fd: int

    @property
    def size_bytes(self) -> int:
        return devices.size_bytes(self.fd)

    def data_extents(self, stop: int) -> Iterator[tuple[int, int]]:
        yield from extents.data_extents(self.fd, 0, stop)

    def read(self, length: int, offset: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def write(self, view: memoryview, offset: int) -> None:
        _write_fully(self.fd, bytes(view), offset)

    def zero(self, length: int, offset: int) -> None:
        _write_fully(self.fd, bytes(length), offset)

    def flush(self, _go_on: Checkpoint) -> None:
        os.fsync(self.fd)


class _FakeCopy:
    """One file of one :meth:`FakeSender.send`."""

    def __init__(
        self, sender: FakeSender, address: ReceiverAddress, file: Outgoing, outage: Outage, pace: Pace
    ) -> None:
        self._sender = sender
        self._address = address
        self._file = file
        self._outage = outage
        self._pace = pace
        self._buffer = extents.Buffer()

    def run(self, progress: ProgressListener, checkpoint: Checkpoint) -> None:
        self._again(self._survey, checkpoint)

        def go_on() -> None:
            checkpoint()
            progress(self._file.progress())

        while (slot := self._file.take()) is not None:
            self._pace.take(extents.BLOCK_BYTES, go_on)
            self._again(partial(self._send_block, slot), checkpoint)
            progress(self._file.progress())
        if self._file.claim_finish():
            self._file.check_unchanged()
            self._again(self._send_manifest, checkpoint)
        progress(self._file.progress())

    def _again(self, action: Any, checkpoint: Checkpoint) -> None:
        while True:
            checkpoint()
            try:
                action()
                self._outage.over()
                return
            except Broken as broken:
                self._outage.went_on(self._file.path, broken)
                time.sleep(RETRY_PAUSE_S)

    def _survey(self) -> None:
        fd = self._opened(self._file.export.name)
        try:
            if not self._file.fits(devices.size_bytes(fd)):
                raise self._file.failed("the destination offers another size")
            with self._file.lock:
                whole = iter([(0, self._file.size_bytes)])  # a device does not tell what it holds
                data = extents.data_extents(fd, 0, self._file.size_bytes)
                self._file.survey(whole if self._file.export.block else data, self._known())
        finally:
            os.close(fd)

    def _known(self) -> list[ledger.Arrived]:
        """Return what the receiver found in an older copy; what is sent by this one is not written down."""
        exports = self._sender.connect(self._address)
        with suppress(FileNotFoundError), (exports / f"{self._file.export.name}.ledger").open("rb") as file:
            return list(ledger.arrived(_FakeLink(file.fileno()), (exports / "boot").read_bytes()))
        return []

    def _send_block(self, slot: int) -> None:
        file = self._file
        index = file.blocks[slot]
        with file.reading():
            block = extents.read_block(file.fd, index, file.size_bytes, self._buffer)
        self._strike(file.done_bytes + block.data_bytes)
        found = extents.block_hash(block)
        begin = index * extents.BLOCK_BYTES
        pieces = block.segments if found else []
        if file.arrived_before(slot, found):
            pieces = []
        elif file.stale(slot):
            pieces = [(0, len(block.view))]
        self._write(
            file.export.name, [(begin + offset, bytes(block.view[offset:][:n])) for offset, n in pieces]
        )
        sent_bytes = sum(n for _, n in block.segments) if found and pieces else 0
        file.sent(slot, found, block.data_bytes, sent_bytes)
        file.settle(1)
        time.sleep(self._sender.faults.pause_s)

    def _strike(self, sent_bytes: int) -> None:
        faults = self._sender.faults
        if faults.no_space_after_bytes is not None and sent_bytes > faults.no_space_after_bytes:
            raise self._file.failed(WORDS[errno.ENOSPC])
        if faults.break_after_bytes is not None and sent_bytes > faults.break_after_bytes:
            faults.break_after_bytes = None
            raise Broken("connection reset by peer")

    def _send_manifest(self) -> None:
        file = self._file
        packed = manifest.pack(self._address.username, file.size_bytes, file.allocated_bytes, file.body())
        self._write(f"{file.export.name}.manifest", [(0, packed)])

    def _opened(self, name: str) -> int:
        exports = self._sender.connect(self._address)
        try:
            return os.open(exports / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Broken(f"no export {name}") from error

    def _write(self, name: str, pieces: list[tuple[int, bytes]]) -> None:
        fd = self._opened(name)
        try:
            for offset, data in pieces:
                _write_fully(fd, self._damaged(name, offset, data), offset)
        except OSError as error:
            raise self._file.failed(WORDS.get(error.errno or 0, str(error))) from error
        finally:
            os.close(fd)

    def _damaged(self, name: str, offset: int, data: bytes) -> bytes:
        export, where = self._sender.faults.flip_bit_at or ("", -1)
        if export != name or not offset <= where < offset + len(data):
            return data
        at = where - offset
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class FakeVerifier(DiskVerifier):
    """The real one, over files under *root*."""

    def __init__(self, state_dir: Path | str, root: Path | str = "/") -> None:
        super().__init__(state_dir)
        self._root = Path(root)

    def _local(self, path: str) -> Path:
        return under(self._root, path)


def under(root: Path, path: str) -> Path:
    """Return where an absolute *path* of a fake host lies on this machine."""
    return root / Path(path).relative_to("/")


def _plug(network: Path, address: str, port: int) -> Path:
    return network / f"{address}-{port}.json"


def _read(plug: Path) -> dict[str, str] | None:
    try:
        return json.loads(plug.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def _write_fully(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
