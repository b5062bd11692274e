"""The block manifest: what it says, and which ones are not believed."""

from __future__ import annotations

import os
import tracemalloc
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostler import errors
from hostler.drivers.images import extents, manifest
from hostler.drivers.images.extents import BLOCK_BYTES

from .conftest import MIB, make_file, nothing

MIGRATION = "6f2b8c3e-9a51-4d0e-8b7a-0c1d2e3f4a5b"
OTHER = "00000000-0000-4000-8000-000000000001"


def digest_of(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        return manifest.content_digest(
            size, [bytes(manifest.body_of(extents.hashed_blocks(fd, size, nothing)))]
        )
    finally:
        os.close(fd)


def packed(blocks: int = 3) -> bytes:
    body = manifest.body_of((2 * n, bytes([n + 1]) * 32) for n in range(blocks))
    return manifest.pack(MIGRATION, 100 * MIB, 5 * MIB, body)


def test_a_manifest_survives_the_way_with_room_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "0.manifest"
    path.write_bytes(packed() + bytes(5000))
    found = manifest.load(path, MIGRATION)
    assert (found.size_bytes, found.allocated_bytes, found.count) == (100 * MIB, 5 * MIB, 3)
    assert list(found.entries()) == [(0, b"\1" * 32), (2, b"\2" * 32), (4, b"\3" * 32)]


@given(st.integers(0, len(packed()) - 1), st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, where: int, bit: int) -> None:
    data = bytearray(packed())
    data[where] ^= 1 << bit
    path = tmp_path_factory.mktemp("m") / "0.manifest"
    path.write_bytes(data)
    with pytest.raises(errors.InvalidDiskInfo):
        manifest.load(path, MIGRATION)


@pytest.mark.parametrize("length", [0, 1, 119, 120, 121, 160, len(packed()) - 1])
def test_a_manifest_that_is_cut_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "0.manifest"
    path.write_bytes(packed()[:length])
    with pytest.raises(errors.InvalidDiskInfo):
        manifest.load(path, MIGRATION)


def test_a_manifest_of_another_migration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.manifest"
    path.write_bytes(packed())
    with pytest.raises(errors.InvalidDiskInfo, match=f"belongs to migration {MIGRATION}"):
        manifest.load(path, OTHER)


def test_room_that_was_never_written_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "0.manifest"
    path.write_bytes(bytes(5000))
    with pytest.raises(errors.InvalidDiskInfo, match="has not arrived"):
        manifest.load(path, MIGRATION)


def test_blocks_out_of_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.manifest"
    body = manifest.body_of([(3, b"a" * 32), (1, b"b" * 32)])
    path.write_bytes(manifest.pack(MIGRATION, 100 * MIB, 0, body))
    with pytest.raises(errors.InvalidDiskInfo, match="block 1 out of place"):
        manifest.load(path, MIGRATION)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 9 * BLOCK_BYTES])
def test_the_room_made_for_a_manifest_is_enough(size: int) -> None:
    blocks = -(-size // BLOCK_BYTES)
    body = manifest.body_of((n, b"x" * 32) for n in range(blocks))
    assert len(manifest.pack(MIGRATION, size, size, body)) == manifest.upper_bound(size)


def test_the_digest_does_not_depend_on_how_holes_are_laid_out(tmp_path: Path) -> None:
    sparse = make_file(
        tmp_path / "sparse", 5 * BLOCK_BYTES, (BLOCK_BYTES + 8192, 4096), (4 * BLOCK_BYTES, 10)
    )
    full = tmp_path / "full"
    full.write_bytes(sparse.read_bytes())
    assert full.stat().st_blocks > sparse.stat().st_blocks
    assert digest_of(full) == digest_of(sparse)


def test_the_digest_depends_on_the_length_and_on_the_place(tmp_path: Path) -> None:
    files = [
        make_file(tmp_path / "a", 3 * BLOCK_BYTES),
        make_file(tmp_path / "b", 3 * BLOCK_BYTES + 1),
        make_file(tmp_path / "c", 3 * BLOCK_BYTES),
        make_file(tmp_path / "d", 3 * BLOCK_BYTES),
    ]
    for path, offset in ((files[2], 0), (files[3], BLOCK_BYTES)):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"same")
    assert len({digest_of(path) for path in files}) == 4


def test_two_tebibytes_of_nothing_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    path = make_file(tmp_path / "huge", 2 << 40, ((1 << 40) + 5, 7))
    tracemalloc.start()
    digest_of(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MIB


def test_the_list_of_a_dense_two_tebibyte_disk_is_small() -> None:
    indexes = array("Q", range(0, 2 << 19, 2))
    body = manifest.body_from_arrays(indexes, bytearray(b"h" * (32 * len(indexes))))
    assert len(body) == 40 << 19


def test_extents_are_those_of_the_file(tmp_path: Path) -> None:
    path = make_file(tmp_path / "f", 40 * MIB, (8 * MIB, MIB), (30 * MIB, 4096))
    fd = os.open(path, os.O_RDONLY)
    found = list(extents.data_extents(fd, 0, 40 * MIB))
    blocks, allocated = extents.data_blocks(fd, 40 * MIB)
    inside = list(extents.data_extents(fd, 8 * MIB + 4096, 8 * MIB + 8192))
    os.close(fd)
    assert found == [(8 * MIB, 9 * MIB), (30 * MIB, 30 * MIB + 4096)]
    assert inside == [(8 * MIB + 4096, 8 * MIB + 8192)]
    assert (list(blocks), allocated) == ([2, 7], MIB + 4096)


def test_a_block_knows_its_data_and_its_gaps(tmp_path: Path) -> None:
    path = make_file(tmp_path / "f", BLOCK_BYTES, (MIB, 4096), (MIB + 8192, 4096), (3 * MIB, MIB))
    fd = os.open(path, os.O_RDONLY)
    block = extents.read_block(fd, 0, BLOCK_BYTES, extents.Buffer())
    os.close(fd)
    assert block.segments == [(MIB, 12288), (3 * MIB, MIB)]  # 4 KiB of hole are not worth a request
    assert block.gaps == [(0, MIB), (MIB + 12288, 2 * MIB - 12288)]
    assert block.data_bytes == MIB + 8192
    assert bytes(block.view) == path.read_bytes()


def test_nothing_of_a_block_is_left_in_the_buffer_for_the_next(tmp_path: Path) -> None:
    pieces = [(0, 3 * MIB), (BLOCK_BYTES + MIB, MIB), (2 * BLOCK_BYTES + MIB, MIB), (3 * BLOCK_BYTES, MIB)]
    path = make_file(tmp_path / "f", 3 * BLOCK_BYTES + 2 * MIB, *pieces)
    buffer, found = extents.Buffer(), b""
    fd = os.open(path, os.O_RDONLY)
    for index in range(4):
        found += extents.read_block(fd, index, path.stat().st_size, buffer).view
    os.close(fd)
    assert found == path.read_bytes()
