"""Blocks that travel packed: what unpacks them, copies that use it, and copies that lose it on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import zstandard

from hostler import errors
from hostler.drivers.images import tls, unpacker, unpacking
from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.drivers.images.flight import BUFFERS, PIECE_BYTES
from hostler.drivers.images.lanes import Lanes, PackedLost
from hostler.drivers.images.link import Broken, Link
from hostler.drivers.images.recorded import Unpacking
from hostler.drivers.images.recorded import unpacking as unpacking_of
from hostler.drivers.images.unpacker import HEAD, MAGIC, MOST_BYTES
from hostler.drivers.processes import Process
from hostler.jobboard.doctor.look import _running
from hostler.objects import Export, ReceiverAddress

from .conftest import LOCALHOST, MIB, Always, Pair, at_call, dense, make_pair, nothing, opened, same, text

BLOCKS = 12
FRAMES = BLOCK_BYTES // PIECE_BYTES  #: of a block


def head(length: int) -> bytes:
    return HEAD.pack(MAGIC, length)


def frame(data: bytes, **how: bool) -> bytes:
    settings = {"write_checksum": True} | how
    return head(len(data)) + zstandard.ZstdCompressor(level=1, **settings).compress(data)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def bomb() -> bytes:
    """A frame that says 64 KiB and holds 32 GiB: blocks of one byte that stands for 128 KiB each."""
    kind, checksum = 0b1010_0100, bytes(4)  # RFC 8878, 3.1.1.1: 4 bytes of length, one segment, a checksum
    start = struct.pack("<IBI", zstandard.MAGIC_NUMBER, kind, 64 << 10)
    repeated, last = ((128 << 10) << 3 | 2), 1
    blocks = (repeated.to_bytes(3, "little") + b"x") * (1 << 18)
    return head(64 << 10) + start + blocks + (repeated | last).to_bytes(3, "little") + b"x" + checksum


def wide() -> bytes:
    """A frame whose blocks may look back 64 MiB."""
    kind, window = 0b1000_0100, (26 - 10) << 3  # RFC 8878, 3.1.1.1: 4 bytes of length, a window, a checksum
    block = (DATA_BYTES << 3 | 1).to_bytes(3, "little") + DATA
    start = struct.pack("<IBBI", zstandard.MAGIC_NUMBER, kind, window, DATA_BYTES)
    return head(DATA_BYTES) + start + block + GOOD[-4:]


DATA = b"hostler" * 10000
DATA_BYTES = len(DATA)
GOOD = frame(DATA)
REFUSED = {
    "nothing": b"",
    "half a head": GOOD[:5],
    "a plain block": bytes(8192),
    "torn": GOOD[:-5],
    "torn in the checksum": GOOD[:-1],
    "two of them": GOOD + GOOD[HEAD.size :],
    "something behind it": GOOD + b"x",
    "another length": head(DATA_BYTES - 1) + GOOD[HEAD.size :],
    "no length": head(0) + GOOD[HEAD.size :],
    "zstd does not say its length": frame(DATA, write_content_size=False),
    "without a checksum": frame(DATA, write_checksum=False),
    "something else in place of a checksum": frame(DATA, write_checksum=False) + GOOD[-4:],
    "of another kind": b"hzf2" + GOOD[4:],
    "a bit that fell over": flipped(GOOD, len(GOOD) - 12),
    "a checksum of something else": flipped(GOOD, len(GOOD) - 2),
    "too long": frame(bytes(MOST_BYTES + 4096)),
    "a bomb": bomb(),
    "a window too large": wide(),
    "a frame that is skipped": head(8) + struct.pack("<II", 0x184D2A50, 8) + bytes(8),
}


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED)
def test_what_is_no_frame_is_none(bad: bytes) -> None:
    with pytest.raises(unpacker.Torn):
        unpacker.unpack(memoryview(bad), 64 * MIB)


def test_a_frame_is_what_it_stands_for() -> None:
    assert unpacker.unpack(memoryview(GOOD), DATA_BYTES) == DATA
    noise = random.Random(3).randbytes(MIB)
    assert unpacker.unpack(memoryview(frame(noise)), 2 * MIB) == noise
    with pytest.raises(unpacker.Torn, match="room for"):
        unpacker.unpack(memoryview(GOOD), DATA_BYTES - 1)


def test_no_noise_is_taken_for_a_frame() -> None:
    dice = random.Random(7)
    for _ in range(2000):
        at = dice.randrange(len(GOOD))
        changed = flipped(GOOD, at) if dice.random() < 0.5 else GOOD[:at] + dice.randbytes(dice.randrange(40))
        try:
            assert unpacker.unpack(memoryview(changed), MIB) == DATA
        except unpacker.Torn:
            continue


# -- the process ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Opened:
    """A receiver of one disk, and how packed frames get to it."""

    pair: Pair
    disk: Export
    address: ReceiverAddress
    key_file: Path

    def link(self, name: str = "0", **changes: str) -> Link:
        port = recorded(self.pair).port
        link = Link(
            dataclasses.replace(self.address, port=port, **changes), name, self.key_file, self.disk.source
        )
        try:
            link.connect()
        except Broken:
            link.close()
            raise
        return link

    def lies(self, length: int, offset: int) -> bytes:
        with Path(self.disk.part).open("rb") as file:
            return os.pread(file.fileno(), length, offset)


def recorded(pair: Pair) -> Unpacking:
    found = unpacking_of(pair.base / "state" / pair.migration)
    assert found
    return found


def process(pair: Pair) -> Process:
    found = recorded(pair).process
    assert found
    return found


def until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.01)


def kill(found: Process) -> None:
    gone = os.pidfd_open(found.pid)
    os.kill(found.pid, signal.SIGKILL)
    select.select([gone], [], [])
    os.close(gone)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """One process for the tests that do not end it."""
    for pair in opened("packed", tmp_path_factory.mktemp("packed")):
        disk = pair.export("0", text(pair.base / "src" / "disk", 2))
        address = pair.open(disk)
        with tls.key_file(pair.base / "keys", address.username, address.key) as key_file:
            yield Opened(pair, disk, address, key_file)


def test_an_answered_frame_is_written(served: Opened) -> None:
    link = served.link()
    link.write(memoryview(GOOD), 4096)
    assert served.lies(DATA_BYTES, 4096) == DATA
    link.flush(nothing)
    link.close()


@pytest.mark.parametrize(
    "bad", [bad for bad in REFUSED.values() if bad], ids=[n for n in REFUSED if n != "nothing"]
)
def test_a_bad_frame_is_refused_and_changes_nothing(served: Opened, bad: bytes) -> None:
    before = served.lies(2 * BLOCK_BYTES, 0)
    link = served.link()
    with pytest.raises(errors.ImageTransferError, match="Invalid argument"):
        link.write(memoryview(bad), 0)
    assert served.lies(2 * BLOCK_BYTES, 0) == before
    link.write(memoryview(GOOD), 0)  # the process is none the worse for it
    assert served.lies(DATA_BYTES, 0) == DATA
    link.close()


def test_nothing_is_written_past_the_end(served: Opened) -> None:
    link = served.link()
    end = 2 * BLOCK_BYTES
    with pytest.raises(errors.ImageTransferError, match="Invalid argument"):
        link.write(memoryview(GOOD), end - DATA_BYTES + 1)
    assert Path(served.disk.part).stat().st_size == end
    link.write(memoryview(GOOD), end - DATA_BYTES)
    assert served.lies(DATA_BYTES, end - DATA_BYTES) == DATA
    link.close()


def test_nothing_can_be_read(served: Opened) -> None:
    link = served.link()
    with pytest.raises(errors.ImageTransferError, match="does not let"):
        link.read(512, 0)
    link.close()


@pytest.mark.parametrize("name", ["0.manifest", "0.ledger", "boot", "packed", "", "1", "../exports/0", "٠"])
def test_it_offers_disks_and_nothing_beside_them(served: Opened, name: str) -> None:
    with pytest.raises(Broken):
        served.link(name)


def test_a_stranger_is_not_let_in(served: Opened, tmp_path: Path) -> None:
    with (
        tls.key_file(tmp_path, served.address.username, tls.new_key()) as wrong,
        pytest.raises(Broken),
    ):
        dataclasses.replace(served, key_file=wrong).link()


def test_it_is_confined_as_the_receiver_is(served: Opened) -> None:
    served.link().close()  # it has started
    receiver, found = served.pair.nbdkit(), process(served.pair)

    def facts(pid: int) -> list[str]:
        return [
            line
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith(("Uid:", "Gid:", "Groups:", "CapEff:", "CapBnd:", "NoNewPrivs:"))
        ]

    assert facts(found.pid) == facts(receiver.pid)
    for room in ("net", "mnt", "ipc"):
        assert Path(f"/proc/{found.pid}/ns/{room}").readlink() != Path(f"/proc/self/ns/{room}").readlink()


def test_the_doctor_sees_both(served: Opened) -> None:
    strays = [
        stray for stray in _running(served.pair.base / "run") if stray.migration == served.pair.migration
    ]
    assert {stray.process for stray in strays} == {served.pair.nbdkit(), process(served.pair)}


def test_a_host_says_what_it_lacks_to_take_packed_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unpacking.obstacle("nbdkit") == ""
    (tmp_path / "zstandard.py").write_text("raise ImportError('No module named zstandard')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "ImportError: No module named zstandard" in unpacking.obstacle("nbdkit")
    assert "/nowhere/nbdkit" in unpacking.obstacle("/nowhere/nbdkit")
    lacking = tmp_path / "nbdkit"
    lacking.write_text("#!/bin/sh\nexec nbdkit --run true no-such-plugin\n")
    lacking.chmod(0o755)
    assert "cannot open plugin 'no-such-plugin'" in unpacking.obstacle(str(lacking))


def test_asking_twice_is_asking_once(served: Opened) -> None:
    before = recorded(served.pair)
    assert served.pair.open(served.disk) == served.address
    assert served.pair.receiver.restore() == [served.pair.migration]
    assert recorded(served.pair) == before


class Gone:
    """A connection whose peer has gone."""

    answers = 0

    def awaits(self) -> tuple[int, int]:
        raise Broken("it is gone")


class Quiet:
    """A connection over which nothing comes."""

    answers = 0

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def awaits(self) -> tuple[int, int]:
        return self._socket.fileno(), select.POLLIN

    def checked(self, *, silent: bool) -> None:
        assert not silent


def test_a_packed_connection_that_was_idle_costs_nothing_when_it_goes() -> None:
    ours, theirs = socket.socketpair()
    choice, complaints = Always(), list[Exception]()
    with ours, theirs:
        lanes = Lanes(cast(Link, Quiet(ours)), choice, lambda: cast(Link, Gone()), complaints.append)
        lanes.piece(memoryview(bytes(MIB)))
        lanes.turn(0)
        assert [str(error) for error in complaints] == ["it is gone"]
        assert lanes._packed is None
        lanes._packed, lanes._written = cast(Link, Gone()), True
        with pytest.raises(PackedLost):
            lanes.turn(0)


# -- copies -----------------------------------------------------------------------------------------------


@pytest.fixture
def disk(packed_pair: Pair) -> Export:
    return packed_pair.export("0", text(packed_pair.base / "src" / "disk", BLOCKS))


def finish(pair: Pair, disk: Export, digest: object) -> None:
    pair.receiver.close(pair.migration)
    pair.verify(disk, digest)  # type: ignore[arg-type]
    assert same(disk.source, disk.part)


def test_what_travels_packed_arrives_as_it_left(packed_pair: Pair, disk: Export) -> None:
    noise = packed_pair.export("1", dense(packed_pair.base / "src" / "noise", 2))
    packed_pair.copy(disk, noise)
    assert same(disk.source, disk.part)
    assert same(noise.source, noise.part)
    last = {one.name: one for one in packed_pair.progress}
    assert last["0"].done_bytes == BLOCKS * BLOCK_BYTES
    assert last["0"].sent_bytes < BLOCKS * BLOCK_BYTES // 10
    assert last["0"].sent_bytes + last["0"].saved_bytes == BLOCKS * BLOCK_BYTES
    assert (last["1"].sent_bytes, last["1"].saved_bytes) == (2 * BLOCK_BYTES, 0)


def test_a_rate_counts_what_is_on_the_wire(packed_pair: Pair, disk: Export) -> None:
    from hostler.drivers.images.pace import Pace

    taken: list[int] = []

    class Counted(Pace):
        def take(self, count: int, go_on: Callable[[], None]) -> None:
            taken.append(count)

    packed_pair.sender.send(packed_pair.open(disk), packed_pair.progress.append, nothing, 10, Counted())
    assert sum(taken) == packed_pair.progress[-1].sent_bytes < BLOCKS * BLOCK_BYTES // 10


def test_a_copy_that_loses_it_goes_on_as_it_is(
    packed_pair: Pair, disk: Export, caplog: pytest.LogCaptureFixture
) -> None:
    (digest,) = packed_pair.send(packed_pair.open(disk), at_call(BLOCKS, lambda: kill(process(packed_pair))))
    assert packed_pair.progress[-1].sent_bytes > BLOCK_BYTES
    assert caplog.text.count("blocks travel as they are") == 1
    finish(packed_pair, disk, digest)


def test_a_copy_that_is_refused_frames_goes_on_as_it_is(
    packed_pair: Pair, disk: Export, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hostler.drivers.images.lanes.MAGIC", b"hzf2")
    (digest,) = packed_pair.send(packed_pair.open(disk))
    assert "Invalid argument" in caplog.text
    finish(packed_pair, disk, digest)


def test_a_flush_that_is_refused_sends_again_what_it_was_for(
    packed_pair: Pair, disk: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, port = Link.flush, []

    def flush(link: Link, go_on: Callable[[], None]) -> None:
        if link._address.port == recorded(packed_pair).port:
            port.append(link._address.port)
            raise errors.ImageTransferError(path="disk", reason="the destination's disk reports an error")
        real(link, go_on)

    monkeypatch.setattr(Link, "flush", flush)
    (digest,) = packed_pair.send(packed_pair.open(disk))
    assert port
    assert packed_pair.progress[-1].sent_bytes >= BLOCKS * BLOCK_BYTES
    finish(packed_pair, disk, digest)


def test_both_come_back_with_the_worker(packed_pair: Pair, disk: Export) -> None:
    address = packed_pair.open(disk)
    packed_pair.kill_receiver()
    kill(process(packed_pair))
    packed_pair.receiver = packed_pair.renew()
    assert packed_pair.receiver.restore() == [packed_pair.migration]
    (digest,) = packed_pair.send(address)
    assert packed_pair.progress[-1].sent_bytes < BLOCKS * BLOCK_BYTES // 10
    finish(packed_pair, disk, digest)


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the frames that left, answered or not."""
    sent: list[int] = []
    real = Link.send

    def send(self: Link, view: memoryview, offset: int, *done: Callable[[], None]) -> None:
        if view[: len(MAGIC)] == MAGIC:
            sent.append(len(view))
        real(self, view, offset, *done)

    monkeypatch.setattr(Link, "send", send)
    return sent


def half(pair: Pair, disk: Export, frames: list[int]) -> ReceiverAddress:
    """Copy until half of it has left, and stop as a worker does."""
    address = pair.open(disk)

    def stop() -> None:
        if len(frames) >= BLOCKS // 2 * FRAMES:
            raise errors.Stopping

    with pytest.raises(errors.Stopping):
        pair.send(address, stop)
    pair.progress.clear()
    return address


def test_a_copy_that_is_taken_up_again_sends_what_has_not_arrived(
    packed_pair: Pair, disk: Export, frames: list[int]
) -> None:
    (digest,) = packed_pair.send(half(packed_pair, disk, frames))
    assert len(frames) <= (BLOCKS + BUFFERS * packed_pair.sender._connections) * FRAMES  # type: ignore[union-attr]
    finish(packed_pair, disk, digest)


def test_after_a_power_cut_only_what_was_flushed_counts(
    packed_pair: Pair, disk: Export, frames: list[int]
) -> None:
    half(packed_pair, disk, frames)
    kill(process(packed_pair))
    packed_pair.kill_receiver()
    (packed_pair.base / "run" / "boot").unlink()
    os.truncate(disk.part, 0)  # nothing was flushed
    packed_pair.receiver = packed_pair.renew()
    (digest,) = packed_pair.send(packed_pair.open(disk))
    assert len(frames) >= (BLOCKS + BLOCKS // 2) * FRAMES
    finish(packed_pair, disk, digest)


def test_a_receiver_of_an_earlier_version_takes_plain_blocks(
    packed_pair: Pair, disk: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = packed_pair.open(disk)
    monkeypatch.setattr(unpacking, "EXPORT", "of-a-later-version")
    (digest,) = packed_pair.send(address)
    assert packed_pair.progress[-1].sent_bytes == BLOCKS * BLOCK_BYTES
    finish(packed_pair, disk, digest)


def test_a_host_that_cannot_unpack_says_what_is_missing_and_takes_plain_blocks(
    packed_pair: Pair, disk: Export, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = packed_pair.base / "broken.py"
    broken.write_text("import no_such_module\n")
    monkeypatch.setattr(unpacker, "__file__", str(broken))
    address = packed_pair.open(disk)
    until(lambda: "no_such_module" in caplog.text)
    packed_pair.open(disk)
    until(lambda: unpacking_of(packed_pair.base / "state" / packed_pair.migration) is None)
    assert caplog.text.count("apt-get install nbdkit-plugin-python python3-zstandard") == 1
    (digest,) = packed_pair.send(address)
    assert packed_pair.progress[-1].sent_bytes == BLOCKS * BLOCK_BYTES
    finish(packed_pair, disk, digest)


def test_closing_ends_it_also_where_it_was_never_recorded(packed_pair: Pair, disk: Export) -> None:
    packed_pair.open(disk)
    found = process(packed_pair)
    (packed_pair.base / "state" / packed_pair.migration / "unpacker.json").unlink()
    packed_pair.receiver.close(packed_pair.migration)
    assert not found.alive


def test_it_gives_its_port_to_a_receiver_that_finds_no_other(packed_pair: Pair, disk: Export) -> None:
    ports = packed_pair.receiver._ports
    packed_pair.receiver._ports = range(ports.start, ports.start + 2)
    packed_pair.open(disk)
    found, port = process(packed_pair), recorded(packed_pair).port
    other = "00000000-0000-4000-8000-000000000007"
    address = packed_pair.receiver.open(other, [dataclasses.replace(disk, part=f"{disk.part}-2")], LOCALHOST)
    assert address.port == port
    assert not found.alive
    assert packed_pair.receiver.open_migrations() == sorted([packed_pair.migration, other])


def test_what_is_recorded_is_read_by_an_earlier_version(packed_pair: Pair, disk: Export) -> None:
    """It knows none of the new keys, and a record with a key that it does not know stops it."""
    address = packed_pair.open(disk)
    kept = json.loads((packed_pair.base / "state" / packed_pair.migration / "receiver.json").read_text())
    assert set(kept) == {"migration", "peer", "port", "exports", "process"}
    assert set(address.to_dict()) == {"host", "port", "username", "key", "exports"}


def test_an_earlier_receiver_that_still_runs_is_left_as_it_is(tmp_path: Path) -> None:
    pair = make_pair("nbd", tmp_path)
    disk = pair.export("0", text(tmp_path / "src" / "disk", 1))
    pair.open(disk)
    before = pair.nbdkit()
    pair.receiver = make_pair("packed", tmp_path).receiver
    assert pair.receiver.restore() == [pair.migration]
    assert pair.nbdkit() == before
    assert unpacking_of(tmp_path / "state" / pair.migration) is None
    pair.receiver.close(pair.migration)
