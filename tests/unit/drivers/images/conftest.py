"""Two hosts on this machine, once with nbdkit and libnbd between them, once with the fakes."""

from __future__ import annotations

import filecmp
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hostler.drivers.images import tls
from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.drivers.images.fake import FakeReceiver, FakeSender, FakeVerifier
from hostler.drivers.images.receiver import NbdReceiver
from hostler.drivers.images.sender import NbdSender
from hostler.drivers.images.trials import Never, Turn
from hostler.drivers.images.verifier import DiskVerifier
from hostler.drivers.processes import Process
from hostler.objects import CopyProgress, Export, ImageDigest, ReceiverAddress

MIB = 1 << 20
LOCALHOST = "127.0.0.1"


def nothing() -> None:
    """A checkpoint that never stops anything."""


class Always(Never):
    """Packs all that gets smaller, until packed pieces do not get through."""

    def __init__(self, *_: object) -> None:
        self.given_up: list[bool] = []

    def next(self) -> Turn:
        return Turn(0, pack=not self.given_up)

    def failed(self, *, for_good: bool) -> bool:
        self.given_up.append(for_good)
        return len(self.given_up) == 1


@dataclass
class Pair:
    """A source and a destination, and one migration between them."""

    kind: str
    base: Path
    receiver: NbdReceiver
    sender: NbdSender | FakeSender
    verifier: DiskVerifier
    renew: Callable[[], NbdReceiver]
    migration: str = field(default_factory=lambda: str(uuid.uuid4()))
    progress: list[CopyProgress] = field(default_factory=list)

    def export(self, name: str, source: Path, room: int | None = None, exact: bool = True) -> Export:
        size = source.stat().st_size if room is None else room
        return Export(name, str(source), str(self.base / "dst" / f"part-{name}"), size, exact)

    def open(self, *exports: Export, peer: str = LOCALHOST) -> ReceiverAddress:
        return self.receiver.open(self.migration, exports, peer)

    def send(
        self, address: ReceiverAddress, checkpoint: Callable[[], None] = nothing, timeout_s: float = 10
    ) -> list[ImageDigest]:
        return self.sender.send(address, self.progress.append, checkpoint, timeout_s)

    def copy(self, *exports: Export) -> list[ImageDigest]:
        """The whole way: open, send, close, verify."""
        digests = self.send(self.open(*exports))
        self.receiver.close(self.migration)
        for export, digest in zip(exports, digests, strict=True):
            self.verify(export, digest)
        return digests

    def verify(self, export: Export, digest: ImageDigest) -> None:
        self.verifier.verify(self.migration, export, digest, nothing)

    def kill_receiver(self) -> None:
        """What a power cut does to it: gone, and the record stays."""
        if isinstance(self.receiver, FakeReceiver):
            self.receiver.kill(self.migration)
            return
        pid = self.nbdkit().pid
        os.kill(pid, signal.SIGKILL)
        while Process.of(pid):
            time.sleep(0.001)

    def nbdkit(self) -> Process:
        record = self.receiver._recorded(self.migration)
        assert record
        assert record.process
        return record.process


def free_ports(count: int) -> tuple[int, int]:
    """Return first and last of *count* ports in a row that nobody listens on, below the ephemeral ones."""
    while True:
        first = random.randrange(20000, 32700 - count)
        try:
            for port in range(first, first + count):
                with socket.create_server((LOCALHOST, port)):
                    pass
        except OSError:
            continue
        return first, first + count - 1


def make_pair(kind: str, base: Path) -> Pair:
    (base / "src").mkdir(exist_ok=True)
    (base / "dst").mkdir(exist_ok=True)
    dirs = (base / "state", base / "run", LOCALHOST, free_ports(8))
    if kind == "fake":
        network = base / "network"
        return Pair(
            kind,
            base,
            FakeReceiver(*dirs, network=network),
            FakeSender(network=network),
            FakeVerifier(base / "state"),
            lambda: FakeReceiver(*dirs, network=network),
        )
    tls.prepare_environment(base / "gnutls")
    packed = kind == "packed"
    sender = NbdSender(base / "run-source", choose=Always if packed else Never)
    verifier = DiskVerifier(base / "state")

    def renew() -> NbdReceiver:
        return NbdReceiver(*dirs, unpack=packed)

    return Pair(kind, base, renew(), sender, verifier, renew)


@pytest.fixture(scope="session", autouse=True)
def cipher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Say which cipher to use before libnbd loads GnuTLS, as a worker does."""
    before = os.environ.get("GNUTLS_SYSTEM_PRIORITY_FILE")
    tls.prepare_environment(tmp_path_factory.mktemp("gnutls"))
    yield
    if before is None:
        del os.environ["GNUTLS_SYSTEM_PRIORITY_FILE"]


@pytest.fixture(params=["fake", "nbd"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    yield from opened(request.param, tmp_path)


@pytest.fixture
def nbd_pair(tmp_path: Path) -> Iterator[Pair]:
    yield from opened("nbd", tmp_path)


@pytest.fixture
def packed_pair(tmp_path: Path) -> Iterator[Pair]:
    """All travels packed that gets smaller, whether it pays or not."""
    yield from opened("packed", tmp_path)


@pytest.fixture
def fake_pair(tmp_path: Path) -> Iterator[Pair]:
    yield from opened("fake", tmp_path)


def opened(kind: str, base: Path) -> Iterator[Pair]:
    if kind != "fake":
        pytest.importorskip("nbd")
    made = make_pair(kind, base)
    yield made
    for migration in made.receiver.open_migrations():
        made.receiver.close(migration)


def random_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


def text(path: Path, blocks: int = 8) -> Path:
    """Make a file of what gets smaller, no two of its blocks alike."""
    with path.open("wb") as file:
        for index in range(blocks):
            line = random_bytes(2048, seed=index).hex().encode() + b"\n"
            file.write((line * (BLOCK_BYTES // len(line) + 1))[:BLOCK_BYTES])
        file.flush()
        os.fsync(file.fileno())
    return path


def make_file(path: Path, size: int, *pieces: tuple[int, int]) -> Path:
    """Make a sparse file with random data at each (offset, length)."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length in pieces:
            file.seek(offset)
            file.write(random_bytes(length, seed=offset))
        file.flush()
        os.fsync(file.fileno())
    return path


def allocated(path: Path | str) -> int:
    return Path(path).stat().st_blocks * 512


def dense(path: Path, blocks: int = 8) -> Path:
    return make_file(path, blocks * BLOCK_BYTES, (0, blocks * BLOCK_BYTES))


def same(export_source: str, part: str) -> bool:
    return filecmp.cmp(export_source, part, shallow=False)


def at_call(number: int, action: Callable[[], None]) -> Callable[[], None]:
    """A checkpoint that does *action* at its *number*-th call."""
    calls = 0
    lock = threading.Lock()

    def checkpoint() -> None:
        nonlocal calls
        with lock:
            calls += 1
            due = calls == number
        if due:
            action()

    return checkpoint
