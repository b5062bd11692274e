"""Disks of another size: images grown, their file system with them, swap made anew under its old name.

A block device has its new size before it comes here: see :mod:`.blocks`.

Only the destination's copy is touched, in place: what was placed is known by its inode. Everything here may be killed
and done again: an image that has its size already is left, a file system that fills its disk is, too, and swap holds
nothing that could be lost. All that a ``qemu-img resize`` that was killed leaves behind are a few unused clusters.
A ``resize2fs`` that was killed may leave what e2fsck does not mend without asking: then the step fails, and the move
is undone, rather than that anybody guesses.
Who is still at work for a worker that died keeps the host's lock on the server, so that no second one begins
beside it.

A file system is grown where Nova grows it (``disk/api.py:extend``): ext2, 3 or 4 that begins at the first byte of a
raw image. Unlike there, an image with the signature of a partition table is left to the guest, even if an older
file system shows through.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from hostler.drivers.files import disk
from hostler.drivers.files.chain import Chains
from hostler.drivers.files.place import Place
from hostler.errors import ResizeError
from hostler.objects import Disk, DiskChange, DiskRole, SwapArea

LOG = logging.getLogger(__name__)

#: Called while a program is at work; it raises what ends it.
Checkpoint = Callable[[], None]

#: A program that takes longer hangs: checking a file system of terabytes takes minutes.
_TIMEOUT_S = 1800.0
_LOOK_S = 0.5
#: Bounds for a program that reads what a guest has written. A check of 16 TiB takes about 2 GiB.
_LIMITS = ("prlimit", "--as=4294967296", "--cpu=1800", "--")
#: What e2fsck says if the file system is whole now: nothing to do, mended, mended and to be mounted anew.
_WHOLE = (0, 1, 2)
#: What it says of a file system with features of a later version; it has changed nothing then.
_NOT_UNDERSTOOD = 8

_SWAP_SIGNATURE = b"SWAPSPACE2"
_PAGES = (4096, 8192, 16384, 32768, 65536)


class Resizing:
    """Gives the disks on *place* their new sizes."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def swap_area(self, one: Disk) -> SwapArea | None:
        """See :meth:`hostler.drivers.files.InstanceFiles.swap_area`."""
        try:
            if one.format == "raw":
                file = self._place.at(one.path)
                return read_swap_area(_beginning(file.resolve() if one.block else file))
            return read_swap_area(_beginning_of_image(image_options(self._place, one.path, one.format)))
        except (OSError, ResizeError, subprocess.SubprocessError):
            return None

    def resize(self, change: DiskChange, checkpoint: Checkpoint, keep: int | None) -> None:
        """See :meth:`hostler.drivers.files.InstanceFiles.resize`."""
        work = _Work(self._place, change, checkpoint, keep)
        try:
            if change.role is DiskRole.SWAP:
                work.make_swap()
            else:
                work.grow()
            with disk.opened(work.file) as fd:
                disk.step(f"fsync {work.file}")
                os.fsync(fd)
        except OSError as error:
            raise ResizeError(what=change.path, reason=str(error)) from error


class _Work:
    """One disk."""

    def __init__(self, place: Place, change: DiskChange, checkpoint: Checkpoint, keep: int | None) -> None:
        # The names of a device are links, as often as not.
        self.file = place.at(change.path).resolve() if change.block else place.at(change.path)
        self._place = place
        self._change = change
        self._checkpoint = checkpoint
        self._keep = () if keep is None else (keep,)

    def grow(self) -> None:
        """Make the image larger, and what fills it."""
        path, image_format, wanted = self._change.path, self._change.format, self._change.new_bytes
        if not self._change.block and Chains(self._place.at).of(path, image_format).virtual_bytes < wanted:
            options = image_options(self._place, path, image_format)
            self._run(*_LIMITS, "qemu-img", "resize", "-q", "--image-opts", options, str(wanted))
        if image_format == "raw" and is_bare_ext(_beginning(self.file)):
            found = self._run(*_LIMITS, "e2fsck", "-fp", str(self.file), fine=(*_WHOLE, _NOT_UNDERSTOOD))
            if found == _NOT_UNDERSTOOD:
                LOG.warning("the file system on %s is left to the guest: e2fsck does not understand it", path)
                return
            self._run(*_LIMITS, "resize2fs", str(self.file))

    def make_swap(self) -> None:
        """Make an empty swap area that the guest takes for the one that it had."""
        assert self._change.swap is not None
        if self._change.format == "raw":
            with disk.opened(self.file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC) as fd:
                disk.step(f"truncate {self.file}")
                os.ftruncate(fd, 0)
                self._write_swap(fd, self._change.swap)
            return
        fd = os.memfd_create("swap")
        try:
            self._write_swap(fd, self._change.swap)
            formats = ("-f", "raw", "-O", self._change.format)
            self._run("qemu-img", "convert", *formats, f"/proc/self/fd/{fd}", str(self.file), also=(fd,))
        finally:
            os.close(fd)

    def _write_swap(self, fd: int, area: SwapArea) -> None:
        os.ftruncate(fd, self._change.new_bytes)
        label: tuple[str | bytes, ...] = ("-L", area.label.encode("latin-1")) if area.label else ()
        names = ("-U", area.uuid, *label, "-p", str(area.page_bytes))
        self._run("mkswap", "-q", *names, "--", f"/proc/self/fd/{fd}", also=(fd,))

    def _run(self, *command: str | bytes, fine: Sequence[int] = (0,), also: Sequence[int] = ()) -> int:
        program = str(command[len(_LIMITS)] if command[0] == _LIMITS[0] else command[0])
        disk.step(f"{program} {self.file}")
        code, said = run(command, self._checkpoint, (*self._keep, *also))
        if code not in fine:
            reason = said.strip().rpartition("\n")[2] or "it said nothing"
            raise ResizeError(what=self._change.path, reason=f"{program} ended with {code}: {reason}")
        return code


def run(
    command: Sequence[str | bytes], checkpoint: Checkpoint, keep: Sequence[int], timeout_s: float = _TIMEOUT_S
) -> tuple[int, str]:
    """Run a program; return its exit code and what it said.

    It inherits the descriptors *keep*; it is ended if it takes too long, or if *checkpoint* raises.
    """
    deadline = time.monotonic() + timeout_s
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=tuple(keep),
        env=environment,
    ) as process:
        try:
            while True:
                try:
                    said, _ = process.communicate(timeout=_LOOK_S)
                    return process.returncode, said.decode(errors="replace")
                except subprocess.TimeoutExpired:
                    checkpoint()
                    if time.monotonic() > deadline:
                        raise
        except BaseException as error:
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                return -1, f"it took more than {timeout_s:.0f} s"
            raise


def read_swap_area(beginning: bytes) -> SwapArea | None:
    """Return the swap area whose first page *beginning* holds; None if it is none.

    ``union swap_header`` of Linux' ``include/linux/swap.h``: the signature ends the page; version, last page, bad
    pages, UUID and label follow the 1024 bytes that are left to a boot loader.
    """
    for page in _PAGES:
        if beginning[page - len(_SWAP_SIGNATURE) : page] == _SWAP_SIGNATURE:
            if int.from_bytes(beginning[1024:1028], "little") != 1:
                return None
            label = beginning[1052:1068].split(b"\0")[0].decode("latin-1")
            return SwapArea(str(uuid.UUID(bytes=beginning[1036:1052])), label, page)
    return None


def is_bare_ext(beginning: bytes) -> bool:
    """Tell whether an ext2, 3 or 4 file system, and no partition table, begins with the image."""
    return beginning[1080:1082] == b"\x53\xef" and beginning[510:512] != b"\x55\xaa"


def _beginning(file: Path) -> bytes:
    with disk.opened(file) as fd:
        return os.pread(fd, _PAGES[-1], 0)


def _beginning_of_image(options: str) -> bytes:
    """Read the first bytes that the guest sees of an image."""
    fd = os.memfd_create("beginning")
    try:
        command = [
            *_LIMITS,
            "qemu-img",
            "dd",
            "-U",
            "--image-opts",
            "-O",
            "raw",
            f"bs={_PAGES[-1]}",
            "count=1",
        ]
        command += [f"if={options}", f"of=/proc/self/fd/{fd}"]
        subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60, pass_fds=(fd,)
        )
        return os.pread(fd, _PAGES[-1], 0)
    finally:
        os.close(fd)


def image_options(place: Place, path: str, image_format: str) -> str:
    """Name an image and all that lies behind it to QEMU, each of its declared format: it guesses none."""
    chain = Chains(place.at).of(path, image_format)
    if chain.problems:
        raise ResizeError(what=path, reason="; ".join(chain.problems))
    images = zip((path, *chain.backing), (image_format, *chain.formats), strict=True)
    words = []
    for depth, (name, kind) in enumerate(images):
        before, file = "backing." * depth, str(place.at(name)).replace(",", ",,")
        words += [f"{before}driver={kind}", f"{before}file.driver=file", f"{before}file.filename={file}"]
    return ",".join(words)
