"""Block devices are copied whole: onto real ones by nbdkit, onto files in their place by the fakes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.images import confined
from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.objects import Export
from tests.support.stand_ins import stand_ins

from .conftest import MIB, Pair, make_file, nothing, random_bytes

SIZE = 3 * BLOCK_BYTES + MIB


@contextmanager
def attached(image: Path) -> Iterator[Path]:
    """A loop device; the test is skipped where there are none."""
    done = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(
            ["blockdev", "--setrw", device], check=True
        )  # or whoever has it next cannot write to it
        subprocess.run(["losetup", "-d", device], check=True)


@pytest.fixture
def disk(pair: Pair) -> Iterator[Export]:
    """A device with data between zeros, and a larger one that is full of what was on it before."""
    source = make_file(
        pair.base / "src" / "image", SIZE, (0, 5000), (BLOCK_BYTES + 70_000, MIB), (SIZE - 5, 5)
    )
    part = make_file(pair.base / "dst" / "image", SIZE + 2 * MIB, (0, SIZE + 2 * MIB))
    with ExitStack() as stack:
        if pair.kind == "fake":
            stack.enter_context(stand_ins())
        else:
            source, part = stack.enter_context(attached(source)), stack.enter_context(attached(part))
        # the names of devices are links
        for name, device in (("source", source), ("part", part)):
            (pair.base / name).symlink_to(device)
        yield Export("0", str(pair.base / "source"), str(pair.base / "part"), SIZE, exact=True, block=True)


def contents(path: str, size: int = SIZE) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(size)


def test_a_device_reads_at_the_destination_as_it_did_zeros_and_all(pair: Pair, disk: Export) -> None:
    beyond = contents(disk.part, SIZE + 2 * MIB)[SIZE:]
    (digest,) = pair.copy(disk)
    assert contents(disk.part) == contents(disk.source)
    assert digest.size_bytes == SIZE
    # a larger device is neither cut nor cleared
    assert contents(disk.part, SIZE + 2 * MIB)[SIZE:] == beyond


def test_one_flipped_bit_of_a_device_is_found(pair: Pair, disk: Export) -> None:
    (digest,) = pair.copy(disk)
    with Path(disk.part).open("r+b") as file:
        file.seek(2 * BLOCK_BYTES + 17)
        file.write(b"\1")
    with pytest.raises(errors.ImageMismatch) as caught:
        pair.verify(disk, digest)
    assert caught.value.offset == 2 * BLOCK_BYTES


def test_a_device_that_is_gone_is_not_made_as_a_file(pair: Pair, disk: Export) -> None:
    missing = replace(disk, part=str(pair.base / "dst" / "nothing"))
    with pytest.raises(errors.ReceiverUnavailable, match="nothing"):
        pair.open(missing)
    assert not Path(missing.part).exists()


def test_a_device_that_is_too_small_is_refused(pair: Pair, disk: Export) -> None:
    with pytest.raises(errors.ReceiverUnavailable, match=r"it has \d+ bytes, and \d+ are to arrive"):
        pair.open(replace(disk, size_bytes=SIZE + 3 * MIB))


def test_a_device_of_another_size_than_was_inspected_is_refused(pair: Pair, disk: Export) -> None:
    with pytest.raises(errors.ImageUnreadable, match=f"it has {SIZE} bytes"):
        pair.send(pair.open(replace(disk, size_bytes=SIZE + MIB)))


def test_another_device_under_the_name_is_noticed(pair: Pair, disk: Export) -> None:
    other = make_file(pair.base / "src" / "other", SIZE)
    address = pair.open(disk)
    calls = iter(range(1000))

    def exchange() -> None:
        if next(calls) == 4:
            Path(disk.source).unlink()
            Path(disk.source).symlink_to(other)

    with pytest.raises(errors.ImageUnreadable, match="another device has taken its place"):
        pair.send(address, exchange)


def test_a_receiver_of_a_device_comes_back(pair: Pair, disk: Export) -> None:
    address = pair.open(disk)
    pair.kill_receiver()
    pair.receiver = pair.renew()
    assert pair.receiver.restore() == [pair.migration]
    (digest,) = pair.send(address)
    pair.receiver.close(pair.migration)
    pair.verify(disk, digest)


@pytest.mark.parametrize("kind", ["source", "part"])
def test_a_file_is_not_taken_for_a_device(nbd_pair: Pair, kind: str) -> None:
    source = make_file(nbd_pair.base / "src" / "file", MIB)
    export = replace(nbd_pair.export("0", source), block=True)
    if kind == "part":
        Path(export.part).write_bytes(random_bytes(MIB))
        with pytest.raises(errors.ReceiverUnavailable, match="Block device required"):
            nbd_pair.open(export)
        return
    address = nbd_pair.open(replace(export, block=False))
    with pytest.raises(errors.ImageUnreadable, match="it is not a block device"):
        nbd_pair.send(replace(address, exports=[export]), nothing)
    assert Path(export.part).stat().st_size == MIB


def test_a_device_that_was_written_to_between_two_attempts_arrives_as_it_is_now(
    pair: Pair, disk: Export
) -> None:
    """It has no time of its last change: what had arrived is read again, and compared."""
    pair.send(pair.open(disk))
    with Path(disk.source).open("r+b") as file:
        file.seek(BLOCK_BYTES)
        file.write(b"written since")
    pair.progress.clear()
    pair.copy(disk)
    assert contents(disk.part) == contents(disk.source)
    if pair.kind == "nbd":
        assert pair.progress[-1].sent_bytes <= BLOCK_BYTES


def test_a_confined_receiver_has_a_node_of_its_own_and_no_other_device(
    nbd_pair: Pair, tmp_path: Path
) -> None:
    with attached(make_file(tmp_path / "image", SIZE)) as device:
        before = device.stat()
        nbd_pair.open(Export("0", "/dev/null", str(device), SIZE, exact=True, block=True))
        pid = nbd_pair.nbdkit().pid
        uid = Path(f"/proc/{pid}").stat().st_uid
        own = confined.inside(nbd_pair.base / "run" / nbd_pair.migration / "exports" / "0")
        enter = ["nsenter", f"--target={pid}", "--mount", "--", "setpriv", f"--reuid={uid}", f"--regid={uid}"]
        enter += ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "dd", "count=1", "of=/dev/null"]
        assert uid != 0
        assert subprocess.run([*enter, f"if={own}"], check=False, capture_output=True).returncode == 0
        assert subprocess.run([*enter, f"if={device}"], check=False, capture_output=True).returncode != 0
        assert (device.stat().st_uid, device.stat().st_mode) == (before.st_uid, before.st_mode)
        nbd_pair.receiver.close(nbd_pair.migration)
