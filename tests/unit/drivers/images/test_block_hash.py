"""The hash of a block: of its contents alone, and of nothing where it is a hole."""

from __future__ import annotations

import struct

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from hostler.drivers.images import extents
from hostler.drivers.images.extents import BLOCK_BYTES, CELL_BYTES, Block

#: A block of these makes each case quick.
LENGTHS = (1, CELL_BYTES - 1, CELL_BYTES, 3 * CELL_BYTES + 17)


def block_of(data: bytes, segments: list[tuple[int, int]] | None = None) -> Block:
    whole = [(0, len(data))] if segments is None else segments
    return Block(memoryview(bytearray(data)), whole, sum(length for _, length in whole))


def as_described(data: bytes) -> bytes | None:
    """What the docstring says, word by word."""
    cells = [data[begin : begin + CELL_BYTES] for begin in range(0, len(data), CELL_BYTES)]
    full = [any(cell) for cell in cells]
    layout = sum(1 << number for number, one in enumerate(full) if one)
    kept = b"".join(cell for cell, one in zip(cells, full, strict=True) if one)
    return blake3(kept + struct.pack("<QQ", layout, len(data))).digest() if layout else None


@st.composite
def sparse(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]]]:
    """A block's bytes, and extents that hold all of them that are not zeros."""
    data = bytearray(draw(st.sampled_from(LENGTHS)))
    edges = sorted(draw(st.sets(st.integers(0, len(data)), max_size=8)))
    segments = [(begin, end - begin) for begin, end in zip(edges[::2], edges[1::2], strict=False)]
    for begin, length in segments:
        for at in draw(st.lists(st.integers(begin, begin + length - 1), max_size=3)):
            data[at] = 1
    return bytes(data), segments


@given(sparse())
@settings(max_examples=200, deadline=None)
def test_it_is_the_same_wherever_holes_lie(made: tuple[bytes, list[tuple[int, int]]]) -> None:
    data, segments = made
    assert extents.block_hash(block_of(data, segments)) == as_described(data)
    assert extents.block_hash(block_of(data)) == as_described(data)


@pytest.mark.parametrize("at", [0, CELL_BYTES, BLOCK_BYTES - 1])
def test_the_same_bytes_elsewhere_are_another_block(at: int) -> None:
    moved = [bytearray(BLOCK_BYTES), bytearray(BLOCK_BYTES)]
    moved[0][at] = moved[1][2 * CELL_BYTES] = 7
    found = {extents.block_hash(block_of(bytes(data))) for data in moved}
    assert len(found) == 2
    assert None not in found


def test_zeros_are_no_block_and_still_have_a_hash_of_their_length() -> None:
    assert extents.block_hash(block_of(bytes(BLOCK_BYTES))) is None
    hashes = {extents.zeros_hash(length) for length in LENGTHS}
    assert len(hashes) == len(LENGTHS)
