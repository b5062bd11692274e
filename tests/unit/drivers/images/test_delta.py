"""An older copy at the destination is sent only what differs, whatever was known of it before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.images.extents import BLOCK_BYTES

from .conftest import MIB, Pair, dense, make_file, nothing, same

#: A disk that has a piece of data in each of its blocks.
BLOCKS, PIECE_BYTES = 100, 64 << 10


def change(path: Path, *blocks: int) -> None:
    """Change a byte in each of these blocks."""
    with path.open("r+b") as file:
        for block in blocks:
            file.seek(block * BLOCK_BYTES + 12345)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 255]))


def sent(pair: Pair) -> int:
    return pair.progress[-1].sent_bytes


def test_of_an_older_copy_only_changed_blocks_are_sent(pair: Pair) -> None:
    pieces = [(number * BLOCK_BYTES, PIECE_BYTES) for number in range(BLOCKS)]
    disk = pair.export("0", make_file(pair.base / "src/disk", BLOCKS * BLOCK_BYTES, *pieces))
    make_file(Path(disk.part), BLOCKS * BLOCK_BYTES, *pieces)
    change(Path(disk.source), 7)
    pair.receiver.take_stock(pair.migration, [disk], nothing)
    pair.copy(disk)
    assert 0 < sent(pair) <= 0.015 * BLOCKS * PIECE_BYTES
    assert same(disk.source, disk.part)


def test_holes_become_holes_again(pair: Pair) -> None:
    """What the older copy has and the source has no more goes, with the room that it took."""
    disk = pair.export("0", make_file(pair.base / "src/disk", 8 * BLOCK_BYTES, (0, MIB)))
    make_file(Path(disk.part), 8 * BLOCK_BYTES, (0, MIB), (2 * BLOCK_BYTES, 3 * BLOCK_BYTES))
    pair.receiver.take_stock(pair.migration, [disk], nothing)
    pair.copy(disk)
    assert same(disk.source, disk.part)
    if pair.kind == "nbd":
        assert sent(pair) == 0
        assert Path(disk.part).stat().st_blocks * 512 <= BLOCK_BYTES


@pytest.mark.parametrize("length", [3, 12])
def test_an_older_copy_may_have_another_length(pair: Pair, length: int) -> None:
    disk = pair.export("0", dense(pair.base / "src/disk", 8))
    old = (Path(disk.source).read_bytes() * 2)[: length * BLOCK_BYTES]
    Path(disk.part).write_bytes(old)
    pair.receiver.take_stock(pair.migration, [disk], nothing)
    pair.copy(disk)
    assert sent(pair) == max(0, 8 - length) * BLOCK_BYTES
    assert same(disk.source, disk.part)


def test_an_image_that_may_have_grown_by_then_is_not_sent_again(pair: Pair) -> None:
    """Its receiver makes room for more than it has."""
    source = make_file(pair.base / "src/disk", MIB + 512, (0, MIB))
    disk = pair.export("0", source, room=64 * MIB, exact=False)
    Path(disk.part).write_bytes(source.read_bytes())
    pair.receiver.take_stock(pair.migration, [disk], nothing)
    pair.copy(disk)
    assert sent(pair) == 0


def test_a_copy_that_changes_behind_the_look_at_it_starts_no_guest(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src/disk", 4))
    Path(disk.part).write_bytes(Path(disk.source).read_bytes())
    pair.receiver.take_stock(pair.migration, [disk], nothing)
    change(Path(disk.part), 2)
    with pytest.raises(errors.ImageMismatch):
        pair.copy(disk)


def test_a_look_that_is_cut_short_is_begun_again(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src/disk", 4))
    Path(disk.part).write_bytes(Path(disk.source).read_bytes())

    def stop() -> None:
        raise errors.Stopping

    with pytest.raises(errors.Stopping):
        pair.receiver.take_stock(pair.migration, [disk], stop)
    pair.receiver.take_stock(pair.migration, [disk], nothing)
    pair.copy(disk)
    assert sent(pair) == 0


def test_what_was_found_counts_also_when_the_destination_has_rebooted(nbd_pair: Pair) -> None:
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src/disk", 4))
    Path(disk.part).write_bytes(Path(disk.source).read_bytes())
    nbd_pair.receiver.take_stock(nbd_pair.migration, [disk], nothing)
    nbd_pair.receiver._boot = b"another run of it"[:16]
    nbd_pair.copy(disk)
    assert sent(nbd_pair) == 0


def test_a_link_in_the_place_of_a_copy_is_refused(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src/disk", 1))
    Path(disk.part).symlink_to(disk.source)
    with pytest.raises(errors.ReceiverUnavailable):
        pair.receiver.take_stock(pair.migration, [disk], nothing)
