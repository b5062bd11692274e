"""Backing chains, as the images' headers declare them. No format is ever guessed.

A raw image has no chain, whatever a guest has written into its first sector.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shlex
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostler.drivers.files import disk

MAX_DEPTH = 32
#: What ``qemu-img`` may be asked to open an image file as.
FORMATS = frozenset({"raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "parallels", "luks"})
#: Bounds for a header that was made to exhaust its reader: Nova's, for the same program.
_LIMITS = ("prlimit", "--as=1073741824", "--cpu=30", "--")
_TIMEOUT_S = 60.0
#: QEMU takes a name with a colon before the first slash for a protocol.
_PROTOCOL = re.compile(r"[^/]*:", re.DOTALL)
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_EXTERNAL_DATA = 1 << 2  # docs/interop/qcow2.txt: incompatible feature bit 2


class BadImageError(Exception):
    """A sentence: why a chain cannot be followed."""


@dataclass(frozen=True)
class ImageInfo:
    """What the header of one image says."""

    virtual_bytes: int
    backing: str | None = None  #: as written in the header
    backing_format: str | None = None


@dataclass(frozen=True)
class Chain:
    """What lies behind an image."""

    virtual_bytes: int = 0
    backing: list[str] = field(default_factory=list)  #: nearest first, as far as they could be followed
    formats: list[str] = field(default_factory=list)  #: of each of them, as the image before it declares it
    problems: list[str] = field(default_factory=list)  #: sentences


class Chains:
    """Follows chains; each image is read once in the life of this object."""

    def __init__(self, at: Callable[[str], Path]) -> None:
        self._at = at
        self._known: dict[tuple[str, str], Chain] = {}

    def of(self, path: str, image_format: str) -> Chain:
        """Return the chain behind the image at *path*, declared to be of *image_format*."""
        key = (path, image_format)
        if key not in self._known:
            self._known[key] = self._follow(path, image_format)
        return self._known[key]

    def _follow(self, path: str, image_format: str) -> Chain:
        images: list[str] = []
        formats: list[str] = []
        seen: set[tuple[int, int]] = set()
        virtual_bytes = 0
        current: tuple[str, str] | None = (path, image_format)
        try:
            while current is not None:
                self._count(current[0], path, seen)
                images.append(current[0])
                formats.append(current[1])
                info = inspect(self._at(current[0]), *current)
                virtual_bytes = virtual_bytes or info.virtual_bytes
                current = self._behind(*current, info)
        except BadImageError as error:
            return Chain(virtual_bytes, images[1:], formats[1:], [str(error)])
        return Chain(virtual_bytes, images[1:], formats[1:])

    def _count(self, path: str, top: str, seen: set[tuple[int, int]]) -> None:
        try:
            found = self._at(path).stat()
        except (OSError, ValueError) as error:
            what = "" if path == top else f", behind {top},"
            reason = getattr(error, "strerror", None) or str(error)
            raise BadImageError(f"{path}{what} cannot be read: {reason}") from error
        if not stat.S_ISREG(found.st_mode):
            raise BadImageError(f"{path} is not a regular file")
        if (found.st_dev, found.st_ino) in seen:
            raise BadImageError(f"the backing chain of {top} leads back to {path}")
        seen.add((found.st_dev, found.st_ino))
        if len(seen) > MAX_DEPTH:
            raise BadImageError(f"the backing chain of {top} is longer than {MAX_DEPTH} images")

    def _behind(self, path: str, image_format: str, info: ImageInfo) -> tuple[str, str] | None:
        if info.backing is None:
            return None
        name = info.backing
        if _PROTOCOL.match(name):
            raise BadImageError(f"{path} is backed by {name}, which is not a plain file")
        if info.backing_format is None:
            raise BadImageError(
                f"{path} does not say of which format its backing file {name} is; "
                f"if you know: qemu-img rebase -u -f {image_format} -F FORMAT "
                f"-b {shlex.quote(name)} {shlex.quote(path)}"
            )
        joined = posixpath.join(posixpath.dirname(path), name)
        plain = posixpath.normpath(joined).replace("//", "/")
        if plain != joined and not _same(self._at(joined), self._at(plain)):
            raise BadImageError(f"{path} is backed by {name}, which leads through a symbolic link")
        return plain, info.backing_format


def inspect(file: Path, path: str, image_format: str) -> ImageInfo:
    """Read the header of *file*, which the domain calls *path*, as *image_format* and as nothing else."""
    if image_format not in FORMATS:
        raise BadImageError(
            f"{path} is declared to be of format {image_format!r}, which is not an image file's"
        )
    if image_format == "raw":
        return ImageInfo(virtual_bytes=file.stat().st_size)
    if image_format == "qcow2" and _has_external_data(file):
        raise BadImageError(
            f"{path} keeps its data in another file (data_file), which cannot be moved with it"
        )
    said = _qemu_img_info(file, path, image_format)
    for extent in _extents(said):
        if extent != str(file):
            raise BadImageError(
                f"{path} keeps its data in another file ({extent}), which cannot be moved with it"
            )
    return ImageInfo(
        virtual_bytes=int(said["virtual-size"]),
        backing=said.get("backing-filename"),
        backing_format=said.get("backing-filename-format"),
    )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return not one.exists() and not other.exists()


def _has_external_data(file: Path) -> bool:
    # Looked at before qemu-img is: it opens that file, whatever it is (CVE-2024-4467).
    try:
        with disk.opened(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) as fd:
            header = os.read(fd, 80)
    except OSError:
        return False
    if len(header) < 80 or header[:4] != _QCOW2_MAGIC or int.from_bytes(header[4:8], "big") < 3:
        return False
    return bool(int.from_bytes(header[72:80], "big") & _QCOW2_EXTERNAL_DATA)


def _extents(said: dict[str, Any]) -> list[str]:
    data = (said.get("format-specific") or {}).get("data") or {}
    names = [extent.get("filename") for extent in data.get("extents") or []]
    names.append(data.get("data-file"))
    return [name for name in names if name]


def _qemu_img_info(file: Path, path: str, image_format: str) -> dict[str, Any]:
    # A driver named explicitly takes the name as it is: no protocol, no json:, no option is read out of it.
    options = f"driver={image_format},file.driver=file,file.filename={str(file).replace(',', ',,')}"
    command = [*_LIMITS, "qemu-img", "info", "-U", "--output=json", "--image-opts", options]
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
        if done.returncode == 0:
            said: dict[str, Any] = json.loads(done.stdout)
            return said
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise BadImageError(f"{path} cannot be read as {image_format}: {error}") from error
    reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise BadImageError(f"{path} cannot be read as {image_format}: {reason.removeprefix('qemu-img: ')}")
