"""What a receiver, a sender and a verifier promise, kept by nbdkit and libnbd and by the fakes alike."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.drivers.images.fake import FakeReceiver, FakeSender, FakeVerifier
from hostler.objects import Export
from tests.support import LONGER_THAN_A_TEST_S

from .conftest import MIB, Pair, allocated, at_call, dense, make_file, nothing, random_bytes, same

# -- what arrives ------------------------------------------------------------------------------------------


def test_a_dense_disk_arrives_as_it_left(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk"))
    (digest,) = pair.copy(disk)
    assert same(disk.source, disk.part)
    assert replace(digest, path=disk.part) == pair.verifier.digest(disk.part, nothing)
    assert digest.path == disk.source


def test_holes_stay_holes(pair: Pair) -> None:
    pieces = [(n * 10 * MIB, 256 << 10) for n in range(8)]
    disk = pair.export("0", make_file(pair.base / "src" / "disk", 90 * MIB, *pieces))
    pair.copy(disk)
    assert same(disk.source, disk.part)
    assert allocated(disk.part) == allocated(disk.source)


def test_of_an_almost_empty_20_gib_disk_only_what_was_written_is_sent(pair: Pair) -> None:
    source = make_file(pair.base / "src" / "disk", 20 << 30, (0, MIB), (19 << 30, MIB), ((20 << 30) - 5, 5))
    disk = pair.export("0", source)
    (digest,) = pair.copy(disk)
    assert pair.progress[-1].total_bytes < 3 * MIB
    assert digest.size_bytes == 20 << 30
    assert allocated(disk.part) == allocated(disk.source)


@pytest.mark.parametrize("size", [0, 1, 511, 5000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_files_of_any_length_arrive(pair: Pair, size: int) -> None:
    disk = pair.export("0", make_file(pair.base / "src" / "disk", size, (0, size)))
    (digest,) = pair.copy(disk)
    assert same(disk.source, disk.part)
    assert digest.size_bytes == size


def test_many_files_arrive_at_once(pair: Pair) -> None:
    exports = [
        pair.export(str(n), make_file(pair.base / "src" / str(n), size, (0, size)))
        for n, size in enumerate([9 * MIB, 3, 0, 300_000, 13 * MIB, 5000])
    ]
    digests = pair.copy(*exports)
    assert [digest.path for digest in digests] == [export.source for export in exports]
    assert all(same(export.source, export.part) for export in exports)


def test_a_file_that_may_be_smaller_is_cut_to_its_size(pair: Pair) -> None:
    source = make_file(pair.base / "src" / "disk.qcow2", 5 * MIB + 17, (0, 5 * MIB + 17))
    disk = pair.export("0", source, room=64 * MIB, exact=False)
    pair.copy(disk)
    assert same(disk.source, disk.part)


def test_what_lay_in_the_part_file_before_does_not_shine_through(pair: Pair) -> None:
    source = make_file(pair.base / "src" / "disk", 40 * MIB, (0, 5000), (9 * MIB, 3 * MIB), (30 * MIB, 4096))
    disk = pair.export("0", source)
    make_file(Path(disk.part), 40 * MIB, (0, 40 * MIB))
    pair.copy(disk)
    assert same(disk.source, disk.part)


def test_zeros_on_the_source_may_be_holes_on_the_destination(pair: Pair) -> None:
    source = pair.base / "src" / "disk"
    source.write_bytes(bytes(3 * BLOCK_BYTES) + b"end")
    disk = pair.export("0", source)
    (digest,) = pair.copy(disk)
    assert same(disk.source, disk.part)
    assert allocated(disk.part) < BLOCK_BYTES
    assert digest.digest == pair.verifier.digest(disk.part, nothing).digest


def test_progress_never_goes_back_and_ends_at_the_total(pair: Pair) -> None:
    disk = pair.export("0", make_file(pair.base / "src" / "disk", 90 * MIB, (0, 30 * MIB), (60 * MIB, 5)))
    pair.send(pair.open(disk))
    done = [report.done_bytes for report in pair.progress]
    assert done == sorted(done)
    assert pair.progress[-1].done_bytes == pair.progress[-1].total_bytes >= 30 * MIB + 5


# -- what is refused ---------------------------------------------------------------------------------------


def test_a_file_that_outgrew_its_room_is_refused(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1), room=MIB, exact=False)
    with pytest.raises(errors.ImageTransferError, match="the destination has been told 1048576"):
        pair.send(pair.open(disk))


def test_a_raw_disk_of_another_size_is_refused(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1), room=8 * MIB, exact=True)
    with pytest.raises(errors.ImageTransferError, match="the destination has been told 8388608"):
        pair.send(pair.open(disk))


def test_a_link_in_the_place_of_the_disk_is_refused(pair: Pair) -> None:
    link = pair.base / "src" / "disk"
    link.symlink_to(dense(pair.base / "src" / "real", 1))
    with pytest.raises(errors.ImageTransferError, match="disk failed"):
        pair.send(pair.open(pair.export("0", link)))


def test_a_missing_source_is_named(pair: Pair) -> None:
    disk = pair.export("0", pair.base / "src" / "nothing", room=MIB)
    with pytest.raises(errors.ImageTransferError, match="nothing failed: it cannot be read: No such file"):
        pair.send(pair.open(disk))


@pytest.mark.parametrize("change", ["written", "grown", "shrunk", "replaced"])
def test_a_source_that_changes_during_the_copy_is_noticed(pair: Pair, change: str) -> None:
    source = dense(pair.base / "src" / "disk")
    disk = pair.export("0", source, room=64 * MIB, exact=False)

    def act() -> None:
        if change == "replaced":
            source.rename(source.with_name("old"))
            dense(source)
        elif change == "written":
            with source.open("r+b") as file:
                file.write(b"new")
        else:
            os.truncate(source, 33 * MIB if change == "grown" else 31 * MIB)

    with pytest.raises(errors.ImageTransferError, match=f"{source} failed"):
        pair.send(pair.open(disk), at_call(5, act))


def test_the_wrong_key_opens_nothing(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    address = replace(pair.open(disk), key="ab" * 32)
    with pytest.raises(errors.ImageTransferError, match="no connection to the receiver"):
        pair.send(address, timeout_s=0.3)
    assert allocated(disk.part) == 0


def test_a_strangers_address_gets_no_answer(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostler.drivers.images.link.CONNECT_PATIENCE_S", 0.3)
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    address = pair.open(disk, peer="127.0.0.2")
    with pytest.raises(errors.ImageTransferError, match="timed out"):
        pair.send(address, timeout_s=0.5)
    assert allocated(disk.part) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A destination with room for 8 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    if os.geteuid() or os.system(f"mount -t tmpfs -o size=8m tmpfs {where}"):
        pytest.skip("needs to mount a tmpfs")
    yield where
    os.system(f"umount {where}")


def test_a_full_destination_is_said_so_at_once(pair: Pair, small_disk: Path) -> None:
    disk = replace(pair.export("0", dense(pair.base / "src" / "disk")), part=str(small_disk / "part"))
    with pytest.raises(errors.ImageTransferError, match="disk failed: no space left on the destination"):
        pair.send(pair.open(disk), timeout_s=LONGER_THAN_A_TEST_S)
    pair.receiver.close(pair.migration)


# -- what breaks and goes on -------------------------------------------------------------------------------


def test_a_copy_goes_on_when_the_receiver_comes_back(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 24))
    address = pair.open(disk)

    def outage() -> None:
        pair.kill_receiver()
        time.sleep(0.3)
        assert pair.receiver.restore() == [pair.migration]

    (digest,) = pair.send(address, at_call(12, outage))
    pair.receiver.close(pair.migration)
    pair.verify(disk, digest)
    assert same(disk.source, disk.part)


def test_a_receiver_that_stays_away_ends_the_copy_in_time(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 24))
    address = pair.open(disk)
    started = time.monotonic()
    with pytest.raises(errors.ImageTransferError, match="no connection to the receiver for"):
        pair.send(address, at_call(12, pair.kill_receiver), timeout_s=0.5)
    assert time.monotonic() - started >= 0.5


def test_an_interrupted_copy_stops_and_can_be_repeated(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 24))
    address = pair.open(disk)

    def stop() -> None:
        raise errors.Stopping

    with pytest.raises(errors.Stopping):
        pair.send(address, at_call(8, stop))
    (digest,) = pair.send(address)
    pair.receiver.close(pair.migration)
    pair.verify(disk, digest)


def test_an_interrupted_copy_stops_while_nobody_answers(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    address = pair.open(disk)
    pair.kill_receiver()
    started = time.monotonic()

    def stop_soon() -> None:
        if time.monotonic() - started > 0.5:
            raise errors.Stopping

    with pytest.raises(errors.Stopping):
        pair.send(address, stop_soon, timeout_s=LONGER_THAN_A_TEST_S)


# -- the receiver ------------------------------------------------------------------------------------------


def test_opening_twice_is_opening_once(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    assert pair.open(disk) == pair.open(disk)
    assert pair.receiver.open_migrations() == [pair.migration]


def test_opening_a_dead_receiver_brings_it_back_with_the_same_key(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    before = pair.open(disk)
    pair.kill_receiver()
    assert pair.open(disk) == before
    pair.send(before)


def test_two_migrations_do_not_share_a_port(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    first = pair.open(disk)
    pair.kill_receiver()
    pair.migration = "00000000-0000-4000-8000-000000000001"
    second = pair.open(replace(disk, part=disk.part + "2"))
    assert first.port != second.port
    assert first.key != second.key


def test_a_restarted_worker_finds_its_receivers(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    address = pair.open(disk)
    renewed = pair.renew()
    assert renewed.open_migrations() == renewed.restore() == [pair.migration]
    pair.send(address)
    renewed.close(pair.migration)
    assert pair.renew().open_migrations() == []


def test_a_receiver_comes_back_after_the_host_did(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    address = pair.open(disk)
    pair.kill_receiver()
    os.system(f"rm -r {pair.base / 'run' / pair.migration}")  # /run is empty after a boot
    renewed = pair.renew()
    assert renewed.restore() == [pair.migration]
    pair.send(address)
    renewed.close(pair.migration)


def test_a_receiver_whose_part_file_vanished_does_not_come_back(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    pair.open(disk)
    pair.kill_receiver()
    Path(disk.part).unlink()
    with pytest.raises(errors.ReceiverUnavailable, match="part-0 is gone"):
        pair.receiver.restore()


def test_one_that_cannot_come_back_does_not_keep_the_others_away(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    lost = replace(disk, part=disk.part + "2")
    address = pair.open(disk)
    pair.kill_receiver()
    mine, pair.migration = pair.migration, "00000000-0000-4000-8000-000000000001"
    pair.open(lost)
    pair.kill_receiver()
    Path(lost.part).unlink()
    with pytest.raises(errors.ReceiverUnavailable):
        pair.receiver.restore()
    pair.migration = mine
    pair.send(address)


def test_closing_forgets_the_key_and_keeps_the_bytes(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    first = pair.open(disk)
    pair.send(first)
    pair.receiver.close(pair.migration)
    pair.receiver.close(pair.migration)
    assert same(disk.source, disk.part)
    assert pair.open(disk).key != first.key


def test_forgetting_leaves_part_files_only(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    pair.send(pair.open(disk))
    pair.receiver.forget(pair.migration)
    pair.receiver.forget(pair.migration)
    assert not (pair.base / "state" / pair.migration).exists()
    assert Path(disk.part).exists()


def test_no_free_port_is_said_so(pair: Pair) -> None:
    pair.receiver._ports = range(0)
    with pytest.raises(errors.ReceiverUnavailable, match="could not be started"):
        pair.open(pair.export("0", dense(pair.base / "src" / "disk", 1)))


def test_a_part_file_that_is_a_link_is_not_followed(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    Path(disk.part).symlink_to("/dev/null")
    with pytest.raises(errors.ReceiverUnavailable, match="part-0"):
        pair.open(disk)


# -- the verifier ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 5 * BLOCK_BYTES + 77, 8 * BLOCK_BYTES - 1, 11 * BLOCK_BYTES])
def test_one_flipped_bit_is_found_where_it_is(pair: Pair, offset: int) -> None:
    source = make_file(pair.base / "src" / "disk", 12 * BLOCK_BYTES, (0, 8 * BLOCK_BYTES))
    disk = pair.export("0", source)
    (digest,) = pair.send(pair.open(disk))
    pair.receiver.close(pair.migration)
    with Path(disk.part).open("r+b") as part:
        part.seek(offset)
        byte = part.read(1)[0]
        part.seek(offset)
        part.write(bytes([byte ^ 1]))
    with pytest.raises(errors.ImageMismatch) as found:
        pair.verify(disk, digest)
    assert found.value.facts["offset"] == offset // BLOCK_BYTES * BLOCK_BYTES
    assert found.value.facts["expected"] != found.value.facts["actual"]


def test_a_block_that_never_arrived_is_found(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 4))
    (digest,) = pair.send(pair.open(disk))
    pair.receiver.close(pair.migration)
    with Path(disk.part).open("r+b") as part:
        part.seek(2 * BLOCK_BYTES)
        part.write(bytes(BLOCK_BYTES))
    with pytest.raises(errors.ImageMismatch, match=f"offset {2 * BLOCK_BYTES}:"):
        pair.verify(disk, digest)


def test_a_part_file_that_is_too_short_is_found(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 4))
    (digest,) = pair.send(pair.open(disk))
    pair.receiver.close(pair.migration)
    os.truncate(disk.part, 5)
    with pytest.raises(errors.ImageMismatch, match="16777216 bytes left, 5 bytes arrived"):
        pair.verify(disk, digest)


def test_verifying_twice_is_verifying_once(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1), room=64 * MIB, exact=False)
    (digest,) = pair.copy(disk)
    pair.verify(disk, digest)
    assert Path(disk.part).stat().st_size == BLOCK_BYTES


def test_a_verification_can_be_interrupted(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 4))
    (digest,) = pair.copy(disk)

    def stop() -> None:
        raise errors.Stopping

    with pytest.raises(errors.Stopping):
        pair.verifier.verify(pair.migration, disk, digest, at_call(3, stop))


def test_a_manifest_of_other_contents_is_refused(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    (digest,) = pair.copy(disk)
    with pytest.raises(errors.InvalidDiskInfo, match="not that of"):
        pair.verify(disk, replace(digest, digest="00" * 32))


def test_without_a_manifest_nothing_is_verified(pair: Pair) -> None:
    disk = pair.export("0", dense(pair.base / "src" / "disk", 1))
    (digest,) = pair.send(pair.open(disk))
    pair.receiver.forget(pair.migration)
    pair.open(disk)
    with pytest.raises(errors.InvalidDiskInfo, match="has not arrived"):
        pair.verify(disk, digest)


# -- what only the fake can be told to do --------------------------------------------------------------------


def test_the_fake_breaks_fills_up_and_damages_as_told(fake_pair: Pair) -> None:
    disk = fake_pair.export("0", dense(fake_pair.base / "src" / "disk"))
    faults = fake_pair.sender.faults  # type: ignore[union-attr]
    faults.no_space_after_bytes = 10 * MIB
    with pytest.raises(errors.ImageTransferError, match="no space left"):
        fake_pair.send(fake_pair.open(disk))
    faults.no_space_after_bytes, faults.break_after_bytes = None, 10 * MIB
    faults.flip_bit_at = ("0", 9 * MIB)
    (digest,) = fake_pair.send(fake_pair.open(disk))
    assert faults.break_after_bytes is None
    with pytest.raises(errors.ImageMismatch, match=f"offset {8 * MIB}:"):
        fake_pair.verify(disk, digest)


def test_fake_hosts_may_have_roots_of_their_own(tmp_path: Path) -> None:
    for host in ("a", "b"):
        (tmp_path / host / "images").mkdir(parents=True)
    (tmp_path / "a/images/disk").write_bytes(random_bytes(5000))
    network = tmp_path / "network"
    receiver = FakeReceiver(
        tmp_path / "state", tmp_path / "run", "10.0.0.2", (1, 3), network=network, root=tmp_path / "b"
    )
    sender = FakeSender(network=network, address="10.0.0.1", root=tmp_path / "a")
    disk = Export("0", "/images/disk", "/images/part", 5000, True)
    migration = "00000000-0000-4000-8000-000000000001"
    address = receiver.open(migration, [disk], "10.0.0.1")
    (digest,) = sender.send(address, lambda _: None, nothing, 1)
    receiver.close(migration)
    FakeVerifier(tmp_path / "state", tmp_path / "b").verify(migration, disk, digest, nothing)
    assert digest.path == "/images/disk"
    assert (tmp_path / "b/images/part").read_bytes() == random_bytes(5000)
