"""Who is not the source of this copy gets nothing; a destination that stops taking bytes ends it."""

from __future__ import annotations

import socket
import subprocess
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hostler import errors
from hostler.objects import Export

from .conftest import LOCALHOST, Pair, allocated, at_call, dense, same
from .test_blocks import SIZE, attached
from .test_check import flip


def test_a_key_of_another_copy_opens_nothing(nbd_pair: Pair) -> None:
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 1))
    address = nbd_pair.open(disk)
    other = replace(disk, part=str(nbd_pair.base / "dst" / "other"))
    foreign = nbd_pair.receiver.open(str(uuid.uuid4()), [other], LOCALHOST)
    for wrong in (replace(address, key=foreign.key), replace(foreign, port=address.port)):
        with pytest.raises(errors.ImageTransferError, match="no connection to the receiver"):
            nbd_pair.send(wrong, timeout_s=0.3)
    assert allocated(disk.part) == 0


def test_a_key_opens_nothing_after_its_copy_has_ended(nbd_pair: Pair) -> None:
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 1))
    before = nbd_pair.open(disk)
    nbd_pair.receiver.close(nbd_pair.migration)
    again = nbd_pair.open(disk)
    assert again.key != before.key
    with pytest.raises(errors.ImageTransferError, match="no connection to the receiver"):
        nbd_pair.send(replace(before, port=again.port), timeout_s=0.3)
    assert allocated(disk.part) == 0


def test_a_flood_of_connections_that_prove_nothing_costs_no_copy(nbd_pair: Pair) -> None:
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 2))
    address = nbd_pair.open(disk)
    with ExitStack() as stack:
        for _ in range(200):
            idle = stack.enter_context(socket.socket())
            idle.setblocking(False)
            idle.connect_ex((LOCALHOST, address.port))
        nbd_pair.copy(disk)
    assert same(disk.source, disk.part)


def test_a_destination_that_turns_read_only_in_the_middle_is_said_so(nbd_pair: Pair, tmp_path: Path) -> None:
    with attached(dense(tmp_path / "source", 6)) as source, attached(dense(tmp_path / "part", 6)) as part:
        size = (tmp_path / "source").stat().st_size
        address = nbd_pair.open(Export("0", str(source), str(part), size, exact=True, block=True))

        def turn() -> None:
            subprocess.run(["blockdev", "--setro", part], check=True)

        with pytest.raises(errors.ImageTransferError, match=f"{source} failed: the destination"):
            nbd_pair.send(address, at_call(6, turn), timeout_s=60)
        nbd_pair.receiver.close(nbd_pair.migration)


def test_a_bit_that_flips_after_the_check_is_found_by_the_verification(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 2))
    address = pair.open(disk)
    (left,) = pair.send(address)
    assert pair.sender.mend(address, [left], lambda: None, 10) == 0
    pair.receiver.close(pair.migration)
    flip(disk.part, SIZE // 4)
    with pytest.raises(errors.ImageMismatch, match="part-0 differs at offset 0"):
        pair.verify(disk, left)
