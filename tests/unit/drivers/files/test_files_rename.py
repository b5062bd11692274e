"""A rename never replaces anything, whatever the file system can do."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from hostler.drivers.files import rename


@pytest.fixture(params=["renameat2", "link and unlink"], autouse=True)
def either_rename(request: Any) -> None:
    if request.param != "renameat2":
        request.getfixturevalue("without_noreplace")


@pytest.mark.parametrize("name", ["new", "n ew", "n\new", "-new", "nëw"])
def test_a_file_gets_its_new_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "old").write_text("x")
    inode = (tmp_path / "old").stat().st_ino
    rename.rename(tmp_path / "old", tmp_path / name)
    assert (tmp_path / name).stat().st_ino == inode
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_directory_gets_its_new_name(tmp_path: Path) -> None:
    (tmp_path / "old" / "below").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    rename.rename(tmp_path / "old", tmp_path / "to" / "new")
    assert (tmp_path / "to" / "new" / "below").is_dir()


@pytest.mark.parametrize("old", ["file", "directory"])
@pytest.mark.parametrize("new", ["file", "empty directory", "full directory", "broken link"])
def test_nothing_is_replaced(tmp_path: Path, old: str, new: str) -> None:
    one, other = tmp_path / "old", tmp_path / "new"
    one.write_text("old") if old == "file" else one.mkdir()
    if new == "file":
        other.write_text("precious")
    elif new == "broken link":
        other.symlink_to("nowhere")
    else:
        other.mkdir()
        if new == "full directory":
            (other / "precious").write_text("x")
    before = other.lstat().st_ino
    with pytest.raises(FileExistsError):
        rename.rename(one, other)
    assert other.lstat().st_ino == before
    assert one.exists()


def test_what_is_not_there_is_not_renamed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rename.rename(tmp_path / "old", tmp_path / "new")


def test_a_half_rename_is_told_from_two_files(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("same")
    new.write_text("same")
    assert not rename.finish_half(old, new)
    new.unlink()
    assert not rename.finish_half(old, new)
    new.hardlink_to(old)
    assert rename.finish_half(old, new)
    assert not old.exists()
    assert not rename.finish_half(old, new)


def test_an_error_that_is_not_about_the_flag_is_not_worked_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(old: Path, new: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(old))

    monkeypatch.setattr(rename, "renameat2", full)
    (tmp_path / "old").write_text("x")
    with pytest.raises(OSError, match="No space"):
        rename.rename(tmp_path / "old", tmp_path / "new")
