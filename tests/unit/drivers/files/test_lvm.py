"""What is asked of lvm2, kept by lvm2 itself and by the fake: the same commands, the same answers.

lvm2 is told that the kernel has no device-mapper: then it keeps its books on the disk, and makes no device.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler.drivers.files.lvm import Lvm
from hostler.drivers.files.lvm_fake import FakeLvm

MIGRATION = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
TAG = f"hostler.{MIGRATION}"
EXTENT = 4 << 20


@pytest.fixture(params=["fake", "lvm2"])
def lvm(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lvm]:
    """A host with one volume group of seven extents, vg-0."""
    if request.param == "fake":
        made = FakeLvm(tmp_path)
        made.add_group("vg-0", 7)
        yield made
        return
    yield from real(tmp_path, monkeypatch)


def real(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lvm]:
    if shutil.which("lvm") is None:
        pytest.skip("lvm2 is not installed")
    if os.geteuid() != 0:
        pytest.skip("a loop device is for root")
    device = attach(base, 32 << 20)
    (base / "lvm.conf").write_text(
        f'devices {{ use_devicesfile=0 filter=["a|^{device}$|","r|.*|"] }}\n'
        f'global {{ locking_dir="{base}" }}\nbackup {{ backup=0 archive=0 }}\n'
    )
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(base))
    options = ("--driverloaded", "n")
    try:
        subprocess.run(["lvm", "vgcreate", "vg-0", device, *options], check=True, capture_output=True)
        yield Lvm(base / "lock", options=options)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def attach(base: Path, size: int) -> str:
    """Make a loop device; the test is skipped where there are none."""
    image = base / "device.img"
    with image.open("wb") as file:
        file.truncate(size)
    done = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    return done.stdout.strip()


def test_a_volume_is_made_renamed_grown_and_removed(lvm: Lvm) -> None:
    lvm.create("vg-0", "web-1", 5 << 20, TAG)
    (made,) = lvm.volumes()
    assert (made.volume.group, made.volume.name, made.full_name) == ("vg-0", "web-1", "vg-0/web-1")
    assert made.size_bytes == 2 * EXTENT
    assert made.tags == (TAG,)
    assert made.roles == ("public",)
    assert made.paths == ("/dev/vg-0/web-1", "/dev/mapper/vg--0-web--1")

    lvm.rename(made, f"web-1.{MIGRATION}_resize")
    (renamed,) = lvm.volumes()
    assert (renamed.volume.uuid, renamed.volume.name) == (made.volume.uuid, f"web-1.{MIGRATION}_resize")
    lvm.untag(renamed, TAG)
    lvm.extend(renamed, 3 * EXTENT)
    (grown,) = lvm.volumes()
    assert (grown.tags, grown.size_bytes) == ((), 3 * EXTENT)
    lvm.extend(grown, 3 * EXTENT)
    lvm.tag(grown, TAG)
    assert lvm.volumes()[0].tags == (TAG,)
    lvm.remove(grown)
    assert lvm.volumes() == []


def test_a_group_says_what_it_has_left(lvm: Lvm) -> None:
    before = lvm.groups()["vg-0"]
    assert (before.extent_bytes, before.free_extents, before.extents_of(EXTENT + 1)) == (EXTENT, 7, 2)
    lvm.create("vg-0", "one", EXTENT, TAG)
    after = lvm.groups()["vg-0"]
    assert (after.uuid, after.free_extents) == (before.uuid, 6)


def test_what_lvm2_refuses_is_an_error_with_its_words(lvm: Lvm) -> None:
    lvm.create("vg-0", "one", EXTENT, TAG)
    with pytest.raises(OSError, match="already exists"):
        lvm.create("vg-0", "one", EXTENT, TAG)
    with pytest.raises(OSError, match=r"insufficient free space \(6 extents\): 9 required"):
        lvm.create("vg-0", "two", 9 * EXTENT, TAG)
    (one,) = lvm.volumes()
    lvm.remove(one)
    with pytest.raises(OSError, match="Failed to find logical volume"):
        lvm.remove(one)


def test_where_lvm2_is_not_installed_there_are_no_volumes(tmp_path: Path) -> None:
    lvm = Lvm(tmp_path / "lock", program="/nowhere/lvm")
    assert (lvm.volumes(), lvm.groups()) == ([], {})


def test_a_command_that_outlives_its_worker_is_waited_for(tmp_path: Path) -> None:
    """The lock is inherited: who comes next sees what the last one did, and not what was before it."""
    script = tmp_path / "lvm"
    script.write_text('#!/bin/sh\nsetsid sh -c "sleep 0.3; touch $0.done" >/dev/null 2>&1 &\n')
    script.chmod(0o755)
    late = Lvm(tmp_path / "lock", program=str(script))
    late._run(["lvrename"])
    assert not (tmp_path / "lvm.done").exists()
    Lvm(tmp_path / "lock", program="/bin/true")._run(["lvs"])
    assert (tmp_path / "lvm.done").exists()
