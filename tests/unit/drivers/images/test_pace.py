"""How fast a copy may be is what the records say at that moment."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.drivers.images.pace import PIECE_S, Pace

from .conftest import MIB, Pair, dense, nothing, same


def test_without_a_limit_nobody_waits() -> None:
    pace = Pace()
    for _ in range(1000):
        pace.take(BLOCK_BYTES, nothing)
    assert list(pace.pieces(5 * MIB // 2, MIB)) == [(0, MIB), (MIB, MIB), (2 * MIB, MIB // 2)]


def test_many_threads_share_one_rate() -> None:
    pace = Pace(50 * MIB)
    began = time.monotonic()
    threads = [
        threading.Thread(target=lambda: [pace.take(MIB, nothing) for _ in range(10)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # the last piece was let go when the 39 before it were due
    assert time.monotonic() - began >= 39 * MIB / (50 * MIB) - 2 * PIECE_S


def test_what_was_not_used_is_not_saved_up() -> None:
    pace = Pace(10 * MIB)
    pace.take(MIB, nothing)
    time.sleep(0.5)
    began = time.monotonic()
    for _ in range(5):
        pace.take(MIB, nothing)
    assert time.monotonic() - began >= 0.4 - 2 * PIECE_S


def test_a_pause_lasts_until_it_is_lifted() -> None:
    pace, gone = Pace(0), threading.Event()

    def take() -> None:
        pace.take(1, nothing)
        gone.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not gone.wait(0.5)
    pace.set(None)
    assert gone.wait(10)
    thread.join()


def test_whoever_waits_can_be_stopped() -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise errors.Stopping

    with pytest.raises(errors.Stopping):
        Pace(0).take(1, stop)


def test_a_higher_rate_counts_at_once() -> None:
    pace = Pace(1)
    pace.take(1000, nothing)  # the next one would be due in a quarter of an hour
    threading.Timer(0.1, pace.set, [None]).start()
    pace.take(1000, nothing)


def test_pieces_are_as_long_as_a_tenth_of_a_second() -> None:
    pieces = list(Pace(5 * MIB).pieces(BLOCK_BYTES, MIB))
    assert pieces[:2] == [(0, MIB // 2), (MIB // 2, MIB // 2)]
    assert sum(length for _, length in pieces) == BLOCK_BYTES
    assert list(Pace(1).pieces(100, MIB)) == [(0, 100)]


def test_a_copy_is_paused_and_goes_on(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 4))
    address = pair.open(disk)
    pace, calls = Pace(0), 0

    def note(progress: object) -> None:
        nonlocal calls
        calls += 1
        assert pace.rate_bytes_per_s is None or progress.done_bytes == 0
        if calls == 3:
            pace.set(None)

    pair.sender.send(address, note, nothing, 10, pace)
    assert same(disk.source, disk.part)


def test_a_copy_that_is_paused_can_be_stopped(pair: Pair) -> None:
    address = pair.open(pair.export("0", dense(pair.base / "src" / "disk", 4)))
    began = time.monotonic()

    def stop() -> None:
        if time.monotonic() - began > 0.5:
            raise errors.Stopping

    with pytest.raises(errors.Stopping):
        pair.sender.send(address, lambda _: None, stop, 10, Pace(0))
    assert Path(pair.base / "dst" / "part-0").stat().st_blocks == 0
