"""A copy that is taken up again sends what the destination is not known to have, and nothing else."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.drivers.images.flight import BUFFERS
from hostler.drivers.images.link import Link
from hostler.drivers.images.sender import NbdSender
from hostler.objects import Export

from .conftest import Pair, dense, make_file, same

BLOCKS = 24


@pytest.fixture
def disk(nbd_pair: Pair) -> Export:
    return nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", BLOCKS))


@pytest.fixture(autouse=True)
def wire(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of what was sent of the disk, answered or not, over all connections and attempts."""
    sent: list[int] = []
    real = Link.send

    def send(self: Link, view: memoryview, offset: int, *done: Callable[[], None]) -> None:
        if self._name == "0":
            sent.append(len(view))
        real(self, view, offset, *done)

    monkeypatch.setattr(Link, "send", send)
    return sent


def half(pair: Pair, disk: Export, wire: list[int]) -> int:
    """Copy until about half has left, and stop as a worker does; return how many bytes left."""
    address = pair.open(disk)

    def stop() -> None:
        if sum(wire) >= BLOCKS // 2 * BLOCK_BYTES:
            raise errors.Stopping

    with pytest.raises(errors.Stopping):
        pair.send(address, stop)
    return sum(wire)


def once_half_has_left(wire: list[int], action: Callable[[], None]) -> Callable[[], None]:
    """A checkpoint that does *action* once, when about half has left."""
    due = threading.Lock()

    def checkpoint() -> None:
        if sum(wire) >= BLOCKS // 2 * BLOCK_BYTES and due.acquire(blocking=False):
            action()

    return checkpoint


def on_the_way(pair: Pair) -> int:
    """The most blocks that the connections of a copy can have on their way."""
    assert isinstance(pair.sender, NbdSender)
    return BUFFERS * pair.sender._connections


def rest(pair: Pair, disk: Export) -> int:
    """Copy what is left and see that all is there; return how many bytes left."""
    pair.progress.clear()
    (digest,) = pair.send(pair.open(disk))
    assert pair.progress[-1].done_bytes == pair.progress[-1].total_bytes
    pair.receiver.close(pair.migration)
    pair.verify(disk, digest)
    assert same(disk.source, disk.part)
    return pair.progress[-1].sent_bytes


def blocks(byte_count: int) -> int:
    return byte_count // BLOCK_BYTES


def test_what_has_arrived_is_not_sent_again(nbd_pair: Pair, disk: Export, wire: list[int]) -> None:
    first = half(nbd_pair, disk, wire)
    again = blocks(first + rest(nbd_pair, disk)) - BLOCKS
    assert 0 <= again <= on_the_way(nbd_pair)


def test_progress_goes_on_where_it_was(nbd_pair: Pair, disk: Export, wire: list[int]) -> None:
    before = half(nbd_pair, disk, wire)
    nbd_pair.progress.clear()
    nbd_pair.send(nbd_pair.open(disk))
    surveyed = [one.done_bytes for one in nbd_pair.progress if one.done_bytes]
    assert surveyed[0] >= before - on_the_way(nbd_pair) * BLOCK_BYTES


def test_a_receiver_that_died_costs_what_was_on_its_way(
    nbd_pair: Pair, disk: Export, wire: list[int]
) -> None:
    address = nbd_pair.open(disk)

    def outage() -> None:
        nbd_pair.kill_receiver()
        assert nbd_pair.receiver.restore() == [nbd_pair.migration]

    nbd_pair.send(address, once_half_has_left(wire, outage))
    assert 0 <= blocks(sum(wire)) - BLOCKS <= on_the_way(nbd_pair)


def test_a_destination_that_rebooted_is_sent_what_was_never_flushed(
    nbd_pair: Pair, disk: Export, wire: list[int]
) -> None:
    first = half(nbd_pair, disk, wire)
    nbd_pair.kill_receiver()
    reboot(nbd_pair)
    assert blocks(first + rest(nbd_pair, disk)) - BLOCKS >= BLOCKS // 2 - 4


def test_a_destination_that_reboots_in_the_middle_is_sent_what_was_never_flushed(
    nbd_pair: Pair, disk: Export, wire: list[int]
) -> None:
    address = nbd_pair.open(disk)

    def power_cut() -> None:
        nbd_pair.kill_receiver()
        reboot(nbd_pair)
        lose(Path(disk.part))
        assert nbd_pair.receiver.restore() == [nbd_pair.migration]

    (digest,) = nbd_pair.send(address, once_half_has_left(wire, power_cut))
    nbd_pair.receiver.close(nbd_pair.migration)
    nbd_pair.verify(disk, digest)


def test_what_was_flushed_counts_after_a_reboot(nbd_pair: Pair, disk: Export) -> None:
    nbd_pair.send(nbd_pair.open(disk))
    nbd_pair.kill_receiver()
    reboot(nbd_pair)
    assert rest(nbd_pair, disk) == 0


def test_only_changed_blocks_go_a_second_time(nbd_pair: Pair, disk: Export) -> None:
    nbd_pair.send(nbd_pair.open(disk))
    with Path(disk.source).open("r+b") as file:
        for index in (3, 17):
            file.seek(index * BLOCK_BYTES + 1000)
            file.write(random.Random(index).randbytes(100))
        file.flush()
        os.fsync(file.fileno())
    assert blocks(rest(nbd_pair, disk)) == 2


def test_a_block_that_became_a_hole_becomes_one_there(nbd_pair: Pair, disk: Export) -> None:
    nbd_pair.send(nbd_pair.open(disk))
    make_file(Path(disk.source), BLOCKS * BLOCK_BYTES, (0, 5 * BLOCK_BYTES))
    assert rest(nbd_pair, disk) <= 5 * BLOCK_BYTES


def test_a_part_file_that_was_made_anew_gets_everything(nbd_pair: Pair, disk: Export) -> None:
    nbd_pair.send(nbd_pair.open(disk))
    nbd_pair.kill_receiver()
    Path(disk.part).unlink()
    assert blocks(rest(nbd_pair, disk)) == BLOCKS


@pytest.mark.parametrize("damage", ["noise", "zeros", "gone"])
def test_a_damaged_ledger_costs_bytes_and_nothing_else(
    nbd_pair: Pair, disk: Export, wire: list[int], damage: str
) -> None:
    half(nbd_pair, disk, wire)
    nbd_pair.kill_receiver()
    (kept,) = (nbd_pair.base / "state" / nbd_pair.migration).glob("0.ledger")
    size = kept.stat().st_size
    if damage == "gone":
        kept.unlink()
    else:
        kept.write_bytes(random.Random(1).randbytes(size) if damage == "noise" else bytes(size))
    rest(nbd_pair, disk)


def test_many_attempts_find_room_in_the_ledger(nbd_pair: Pair) -> None:
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 6))
    for number in range(20):
        Path(disk.source).touch()
        nbd_pair.send(nbd_pair.open(replace(disk)))
        if number:
            assert nbd_pair.progress[-1].sent_bytes == 0


def test_a_receiver_of_an_earlier_version_keeps_no_ledger(nbd_pair: Pair, disk: Export) -> None:
    address = nbd_pair.open(disk)
    exports = nbd_pair.base / "run" / nbd_pair.migration / "exports"
    for name in ("0.ledger", "boot"):
        (exports / name).unlink()
    (digest,) = nbd_pair.send(address)
    nbd_pair.receiver.close(nbd_pair.migration)
    nbd_pair.verify(disk, digest)


def reboot(pair: Pair) -> None:
    """Let the destination have another boot, and lose what was in its memory."""
    (pair.base / "run" / "boot").unlink()
    pair.receiver = pair.renew()


def lose(part: Path) -> None:
    """Take from the part file what no flush has brought to the disk: here nothing was flushed."""
    size = part.stat().st_size
    os.truncate(part, 0)
    os.truncate(part, size)
