"""Several requests are on their way over a connection; a block counts when all of its answers are there."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from hostler import errors
from hostler.drivers.images import carrier, silence
from hostler.drivers.images.extents import BLOCK_BYTES, Block, Buffer
from hostler.drivers.images.flight import BUFFERS, PIECE_BYTES, Flight, Parcel
from hostler.drivers.images.lanes import Lanes
from hostler.drivers.images.link import Link
from hostler.drivers.images.pace import Pace
from hostler.drivers.images.trials import Never

from .conftest import Pair, at_call, dense, nothing, same

PIECES = BLOCK_BYTES // PIECE_BYTES


class Wire:
    """A link whose peer answers as many requests as the test says."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, int, int, Callable[[], None]]] = deque()
        self.promised = 0

    def send(self, view: memoryview, offset: int, done: Callable[[], None]) -> None:
        self.waiting.append(("data", offset, len(view), done))

    def send_zeros(self, length: int, offset: int, done: Callable[[], None]) -> None:
        self.waiting.append(("zeros", offset, length, done))

    def turn(self, longest_s: float) -> None:
        if longest_s:
            self.promised += 1
        while self.promised and self.waiting:
            self.promised -= 1
            self.waiting.popleft()[-1]()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def landed() -> list[int]:
    """The slots that have landed, in that order."""
    return []


@pytest.fixture
def flight(wire: Wire, landed: list[int]) -> Flight:
    buffers = [Buffer() for _ in range(BUFFERS)]
    lanes = Lanes(cast(Link, wire), Never(), pytest.fail, pytest.fail)
    return Flight(lanes, buffers, Pace(), nothing, lambda parcel: landed.append(parcel.slot))


def send(flight: Flight, slot: int, **parts: Any) -> Buffer:
    """Send a whole block; return the buffer that it was read into."""
    buffer = flight.buffer()
    whole = [(0, BLOCK_BYTES)]
    block = Block(buffer.take(BLOCK_BYTES, whole), whole, BLOCK_BYTES)
    flight.send(
        Parcel(slot, block, b"hash"), slot * BLOCK_BYTES, parts.get("zeros", []), parts.get("data", whole)
    )
    return buffer


def test_nobody_waits_for_an_answer_while_there_is_a_buffer(
    flight: Flight, wire: Wire, landed: list[int]
) -> None:
    for slot in range(BUFFERS):
        send(flight, slot)
    assert len(wire.waiting) == BUFFERS * PIECES
    assert not landed


def test_a_block_has_landed_when_all_of_it_is_answered(flight: Flight, wire: Wire, landed: list[int]) -> None:
    send(flight, 0)
    wire.promised = PIECES - 1
    flight.buffer()
    assert not landed
    flight.land()
    assert landed == [0]


def test_a_buffer_is_used_again_when_its_block_has_landed(
    flight: Flight, wire: Wire, landed: list[int]
) -> None:
    first, second = send(flight, 0), send(flight, 1)
    assert first is not second
    assert send(flight, 2) is first
    assert landed == [0]


def test_answers_may_come_in_any_order(flight: Flight, wire: Wire, landed: list[int]) -> None:
    _, second = send(flight, 0), send(flight, 1)
    wire.waiting.reverse()
    assert flight.buffer() is second
    flight.land()
    assert landed == [1, 0]


def test_zeros_and_data_of_a_block_are_answered_alike(flight: Flight, wire: Wire, landed: list[int]) -> None:
    send(flight, 3, zeros=[(0, 4096)], data=[(4096, 8192)])
    begin = 3 * BLOCK_BYTES
    assert [request[:3] for request in wire.waiting] == [("zeros", begin, 4096), ("data", begin + 4096, 8192)]
    wire.promised = 1
    flight.buffer()
    assert not landed
    flight.land()
    assert landed == [3]


def test_a_block_that_is_there_already_has_landed_at_once(
    flight: Flight, wire: Wire, landed: list[int]
) -> None:
    send(flight, 0, data=[])
    flight.land()
    assert landed == [0]
    assert not wire.promised


def test_a_receiver_that_only_hangs_for_a_while_is_not_taken_for_dead(
    nbd_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENCE_MS", 2000)
    monkeypatch.setattr(carrier, "BUFFERS", 24)  # more than the kernel takes for a process that does not read
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 40))
    connections: list[str] = []
    real = Link.connect
    monkeypatch.setattr(Link, "connect", lambda link: (connections.append(link._name), real(link))[1])
    address, pid = nbd_pair.open(disk), nbd_pair.nbdkit().pid

    def hang() -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(4, os.kill, (pid, signal.SIGCONT)).start()

    nbd_pair.send(address, at_call(8, hang))
    assert same(disk.source, disk.part)
    assert 0 < connections.count("0") <= nbd_pair.sender._connections  # type: ignore[union-attr]


def test_a_copy_to_a_receiver_that_hangs_can_be_stopped_and_repeated(nbd_pair: Pair) -> None:
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 24))
    address, pid = nbd_pair.open(disk), nbd_pair.nbdkit().pid
    looks = 0

    def hang_and_stop() -> None:
        nonlocal looks
        looks += 1
        if looks == 12:
            os.kill(pid, signal.SIGSTOP)
        if looks > 40:
            raise errors.Stopping

    try:
        with pytest.raises(errors.Stopping):
            nbd_pair.send(address, hang_and_stop, timeout_s=3600)
    finally:
        os.kill(pid, signal.SIGCONT)
    nbd_pair.send(address)
    assert same(disk.source, disk.part)
