"""Disks of another size, with the real programs: what was on them is there, and swap is known by its old name."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from hostler.drivers.files import resizing
from hostler.errors import Cancelled, ResizeError
from hostler.objects import Disk, DiskChange, DiskRole, SwapArea

from .conftest import INSTANCES, FakeHost

MIB = 1 << 20
SWAP = SwapArea("12345678-1234-4234-8234-123456789abc", "my swap", 4096)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path, "kvm1")


def resize(host: FakeHost, path: str, image_format: str, mib: int, role: DiskRole = DiskRole.ROOT) -> None:
    swap = SWAP if role is DiskRole.SWAP else None
    change = DiskChange(path, image_format, role, MIB, mib * MIB, swap)
    host.files.resize(change, lambda: None, None)


def size_of(host: FakeHost, path: str, image_format: str = "qcow2") -> int:
    command = ["qemu-img", "info", "-U", "--output=json", "-f", image_format, str(host.at(path))]
    said = subprocess.run(command, capture_output=True, check=True)
    return int(json.loads(said.stdout)["virtual-size"]) // MIB


def ext4(host: FakeHost, path: str, mib: int = 8) -> Path:
    file = host.at(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    contents = host.root / "contents"
    contents.mkdir()
    (contents / "letter").write_text("keep me")
    with file.open("wb") as image:
        image.truncate(mib * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-d", contents, file], check=True)
    return file


def blocks(file: Path) -> int:
    said = subprocess.run(["dumpe2fs", "-h", file], capture_output=True, text=True, check=True).stdout
    facts = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return int(facts["Block count"]) * int(facts["Block size"]) // MIB


def test_an_overlay_grows_beyond_its_backing_file_which_stays(host: FakeHost) -> None:
    base = host.write(f"{INSTANCES}/base.raw", "base" * 50_000)
    overlay = host.overlay(f"{INSTANCES}/disk", base)
    inode, before = host.at(overlay).stat().st_ino, host.at(base).read_bytes()
    for _ in range(2):
        resize(host, overlay, "qcow2", 64)
        assert size_of(host, overlay) == 64
    assert host.at(overlay).stat().st_ino == inode
    assert host.at(base).read_bytes() == before


def test_an_image_that_is_larger_already_is_left(host: FakeHost) -> None:
    disk = host.image(f"{INSTANCES}/disk", size="80M")
    resize(host, disk, "qcow2", 64)
    assert size_of(host, disk) == 80


def test_a_file_system_without_a_partition_table_grows_with_its_raw_disk(host: FakeHost) -> None:
    file = ext4(host, f"{INSTANCES}/disk")
    for _ in range(2):
        resize(host, f"{INSTANCES}/disk", "raw", 32)
        assert (file.stat().st_size, blocks(file)) == (32 * MIB, 32)
    said = subprocess.run(["debugfs", "-R", "cat /letter", file], capture_output=True, check=True)
    assert said.stdout == b"keep me"
    subprocess.run(["e2fsck", "-fn", file], check=True, capture_output=True)


def test_one_that_was_cut_short_between_disk_and_file_system_is_finished(host: FakeHost) -> None:
    file = ext4(host, f"{INSTANCES}/disk")
    os.truncate(file, 32 * MIB)
    resize(host, f"{INSTANCES}/disk", "raw", 32)
    assert blocks(file) == 32


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.06, 0.1])
@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_one_that_is_killed_anywhere_is_finished_by_the_next_or_refused_by_it(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, image_format: str, after_s: float
) -> None:
    path = f"{INSTANCES}/disk"
    file = ext4(host, path) if image_format == "raw" else host.at(host.image(path))
    monkeypatch.setattr(resizing, "_LOOK_S", 0.001)
    deadline = time.monotonic() + after_s

    def end() -> None:
        if time.monotonic() >= deadline:
            raise Cancelled("the worker ends")

    change = DiskChange(path, image_format, DiskRole.ROOT, MIB, 2048 * MIB)
    with contextlib.suppress(Cancelled):
        host.files.resize(change, end, None)
    try:
        host.files.resize(change, lambda: None, None)
    except ResizeError as error:  # resize2fs was killed where only a human could say what was there
        assert image_format == "raw"
        assert "e2fsck ended with 4" in str(error)
        return

    assert size_of(host, path, image_format) == 2048
    if image_format == "raw":
        assert blocks(file) == 2048
        letter = subprocess.run(["debugfs", "-R", "cat /letter", file], capture_output=True, check=True)
        assert letter.stdout == b"keep me"
        subprocess.run(["e2fsck", "-fn", file], check=True, capture_output=True)
    else:
        # 3: a few clusters lie there that nobody uses; nothing is damaged
        assert subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", file]).returncode in (0, 3)


def test_an_old_file_system_that_shows_through_a_partition_table_is_left(host: FakeHost) -> None:
    file = ext4(host, f"{INSTANCES}/disk")
    with file.open("r+b") as image:
        image.seek(510)
        image.write(b"\x55\xaa")
    before = file.read_bytes()
    resize(host, f"{INSTANCES}/disk", "raw", 32)
    assert file.read_bytes()[: len(before)] == before
    assert file.stat().st_size == 32 * MIB


def test_a_guest_cannot_make_its_raw_disk_be_read_as_another_format(host: FakeHost) -> None:
    secret = host.write("/secret", "s" * 4096)
    trap = host.overlay(f"{INSTANCES}/disk", secret)
    before = host.at(trap).read_bytes()
    resize(host, trap, "raw", 4)
    assert host.at(trap).read_bytes() == before + bytes(4 * MIB - len(before))


def test_a_damaged_file_system_is_an_error_and_names_the_program(host: FakeHost) -> None:
    file = ext4(host, f"{INSTANCES}/disk")
    subprocess.run(["debugfs", "-w", "-R", "clri <2>", file], check=True, capture_output=True)
    with pytest.raises(ResizeError, match="e2fsck ended with 4"):
        resize(host, f"{INSTANCES}/disk", "raw", 32)


def test_a_file_system_of_a_later_version_is_left_to_the_guest(host: FakeHost) -> None:
    file = ext4(host, f"{INSTANCES}/disk")
    command = ["debugfs", "-w", "-R", "feature FEATURE_I31", file]
    subprocess.run(command, check=True, capture_output=True)
    before = file.read_bytes()
    resize(host, f"{INSTANCES}/disk", "raw", 32)
    assert file.stat().st_size == 32 * MIB
    assert file.read_bytes()[: len(before)] == before


@pytest.mark.parametrize(("old", "new"), [(2, 4), (4, 2)])
@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_swap_is_made_anew_under_its_old_name(host: FakeHost, image_format: str, old: int, new: int) -> None:
    path = host.image(f"{INSTANCES}/disk.swap", size=f"{old}M", image_format=image_format)
    inode = host.at(path).stat().st_ino
    for mib in (old, new, new):
        resize(host, path, image_format, mib, DiskRole.SWAP)
        assert size_of(host, path, image_format) == mib
        assert host.files.swap_area(Disk("vdb", path, image_format)) == SWAP
    assert host.at(path).stat().st_ino == inode


@pytest.mark.parametrize("page", [4096, 65536])
@pytest.mark.parametrize("label", ["", "-rf", "größe"])
def test_a_swap_area_is_read_as_mkswap_writes_it(host: FakeHost, page: int, label: str) -> None:
    path = host.image(f"{INSTANCES}/swap", image_format="raw")
    command = ["mkswap", "-q", "-U", SWAP.uuid, "-p", str(page), *(["-L", label] if label else [])]
    subprocess.run([*command, str(host.at(path))], check=True, capture_output=True)
    found = host.files.swap_area(Disk("vdb", path, "raw"))
    assert found == SwapArea(SWAP.uuid, label.encode().decode("latin-1"), page)


@pytest.mark.parametrize("image_format", ["raw", "qcow2", "vmdk"])
def test_what_is_no_swap_area_is_none(host: FakeHost, image_format: str) -> None:
    path = host.image(f"{INSTANCES}/data", image_format=image_format)
    assert host.files.swap_area(Disk("vdb", path, image_format)) is None
    assert host.files.swap_area(Disk("vdb", f"{INSTANCES}/gone", image_format)) is None


def test_the_swap_of_a_guest_that_sleeps_on_it_is_none(host: FakeHost) -> None:
    path = host.image(f"{INSTANCES}/swap", image_format="raw")
    subprocess.run(["mkswap", "-q", str(host.at(path))], check=True, capture_output=True)
    with host.at(path).open("r+b") as image:
        image.seek(4086)
        image.write(b"S1SUSPEND\0")
    assert host.files.swap_area(Disk("vdb", path, "raw")) is None


def test_a_wish_to_cancel_ends_the_program(tmp_path: Path) -> None:
    def cancelled() -> None:
        raise Cancelled("changed my mind")

    with pytest.raises(Cancelled):
        resizing.run(["sleep", "60"], cancelled, ())


def test_a_program_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "_LOOK_S", 0.01)
    assert resizing.run(["sleep", "60"], lambda: None, (), timeout_s=0.05) == (-1, "it took more than 0 s")


def test_a_program_keeps_the_lock_that_it_inherits(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    code, said = resizing.run(["readlink", f"/proc/self/fd/{lock}"], lambda: None, (lock,))
    os.close(lock)
    assert (code, said.strip()) == (0, str(tmp_path / "lock"))
