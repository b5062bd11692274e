"""Reads what lies on this host's disks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from hostler import errors
from hostler.drivers import devices
from hostler.drivers.images import Checkpoint, extents, manifest, state
from hostler.objects import Export, ImageDigest


class DiskVerifier:
    """Compares part files with the manifests that a receiver under *state_dir* took."""

    def __init__(self, state_dir: Path | str) -> None:
        self._state_dir = Path(state_dir)

    def verify(self, migration: str, export: Export, expected: ImageDigest, checkpoint: Checkpoint) -> None:
        """Cut a part file to its size, read it from the disk, compare it with what left; fsync it."""
        path = state.migration_directory(self._state_dir, migration) / f"{export.name}.manifest"
        left = manifest.load(path, migration)
        if (left.digest, left.size_bytes) != (expected.digest, expected.size_bytes):
            raise errors.InvalidDiskInfo(
                path=str(path), reason=f"the manifest is not that of {expected.path} as it left"
            )
        part = self._local(export.part)
        with _opened(part, os.O_RDWR, block=export.block) as fd:
            _cut(fd, export, left.size_bytes)
            devices.forget_cache(fd)
            arrived = extents.hashed_blocks(fd, left.size_bytes, checkpoint)
            _compare(export.part, left.size_bytes, left.entries(), arrived)
            os.fsync(fd)

    def digest(self, path: str, checkpoint: Checkpoint) -> ImageDigest:
        """Return the digest of a file, reading only allocated extents."""
        with _opened(self._local(path), os.O_RDONLY) as fd:
            size = os.fstat(fd).st_size
            _, allocated = extents.data_blocks(fd, size)
            body = manifest.body_of(extents.hashed_blocks(fd, size, checkpoint))
        return ImageDigest(path, size, allocated, manifest.content_digest(size, [bytes(body)]))

    def _local(self, path: str) -> Path:
        return Path(path)


@contextmanager
def _opened(path: Path, flags: int, *, block: bool = False) -> Iterator[int]:
    try:
        fd = os.open(path, flags | (0 if block else os.O_NOFOLLOW) | os.O_CLOEXEC)
    except OSError as error:
        raise errors.InvalidDiskInfo(path=str(path), reason=f"cannot be opened: {error.strerror}") from error
    try:
        yield fd
    except OSError as error:
        raise errors.InvalidDiskInfo(path=str(path), reason=f"cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)


def _cut(fd: int, export: Export, size: int) -> None:
    if export.block and not devices.is_block(os.fstat(fd)):
        raise errors.InvalidDiskInfo(path=export.part, reason="it is not a block device")
    found = devices.size_bytes(fd)
    if found < size:
        expected, actual = f"{size} bytes", f"{found} bytes"
        raise errors.ImageMismatch(path=export.part, offset=found, expected=expected, actual=actual)
    if found > size and not export.block:
        os.ftruncate(fd, size)


def _compare(
    path: str, size: int, left: Iterator[tuple[int, bytes]], arrived: Iterator[tuple[int, bytes]]
) -> None:
    for want, got in zip_longest(left, arrived):
        if want == got:
            continue
        # Both ascend, so the lower index of the first pair that differs is the first block that does.
        index = min(block[0] for block in (want, got) if block)
        zeros = extents.zeros_hash(min(extents.BLOCK_BYTES, size - index * extents.BLOCK_BYTES))
        expected, actual = (block[1] if block and block[0] == index else zeros for block in (want, got))
        raise errors.ImageMismatch(
            path=path, offset=index * extents.BLOCK_BYTES, expected=expected.hex(), actual=actual.hex()
        )
