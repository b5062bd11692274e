"""Reads what lies on this host's disks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hostler import errors
from hostler.drivers import devices
from hostler.drivers.images import Checkpoint, extents, manifest, state
from hostler.drivers.images.check import Difference
from hostler.objects import Export, ImageDigest


class DiskVerifier:
    """Compares part files with the manifests that a receiver under *state_dir* took."""

    def __init__(self, state_dir: Path | str) -> None:
        self._state_dir = Path(state_dir)

    def verify(self, migration: str, export: Export, expected: ImageDigest, checkpoint: Checkpoint) -> None:
        """Cut a part file to its size, read it from the disk, compare it with what left; fsync it."""
        left = self._manifest(migration, export, expected)
        part = self._local(export.part)
        with _opened(part, os.O_RDWR, block=export.block) as fd:
            _cut(fd, export, left.size_bytes)
            devices.forget_cache(fd)
            for block in differences(fd, left, checkpoint):
                raise _mismatch(export.part, block)
            os.fsync(fd)

    def compare(
        self, migration: str, export: Export, expected: ImageDigest, checkpoint: Checkpoint
    ) -> Iterator[Difference]:
        """Yield each block of a disk that is not what left; nothing is cut or written."""
        left = self._manifest(migration, export, expected)
        with reading_part(self._local(export.part), export, left.size_bytes) as fd:
            yield from differences(fd, left, checkpoint)

    def written_at(self, export: Export) -> datetime | None:
        """Return when a part file was last written to, as UTC; None of a device, which does not know."""
        if export.block:
            return None
        with _opened(self._local(export.part), os.O_RDONLY) as fd:
            return datetime.fromtimestamp(os.fstat(fd).st_mtime, UTC)

    def _manifest(self, migration: str, export: Export, expected: ImageDigest) -> manifest.Manifest:
        path = state.migration_directory(self._state_dir, migration) / f"{export.name}.manifest"
        left = manifest.load(path, migration)
        if (left.digest, left.size_bytes) != (expected.digest, expected.size_bytes):
            raise errors.InvalidDiskInfo(
                path=str(path), reason=f"the manifest is not that of {expected.path} as it left"
            )
        return left

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


@contextmanager
def reading_part(path: Path, export: Export, size: int) -> Iterator[int]:
    """Open a part file of at least *size* bytes to read it as it lies on the disk, whatever the kernel remembers."""
    with _opened(path, os.O_RDONLY, block=export.block) as fd:
        _check_length(fd, export, size)
        devices.forget_cache(fd)
        yield fd


def differences(
    fd: int, left: manifest.Manifest, checkpoint: Checkpoint, first: int = 0, stop: int | None = None
) -> Iterator[Difference]:
    """Yield each block, from *first* to before *stop*, that is not what the manifest says *left*, ascending."""
    size = left.size_bytes
    stop = -(-size // extents.BLOCK_BYTES) if stop is None else stop
    expected = (entry for entry in left.entries() if first <= entry[0] < stop)
    arrived = extents.hashed_blocks(fd, size, checkpoint, first, stop)
    want, got = next(expected, None), next(arrived, None)
    while want or got:
        index = min(block[0] for block in (want, got) if block)
        zeros = extents.zeros_hash(min(extents.BLOCK_BYTES, size - index * extents.BLOCK_BYTES))
        left_hash = want[1] if want and want[0] == index else zeros
        found = got[1] if got and got[0] == index else zeros
        if left_hash != found:
            yield Difference(index, left_hash, found)
        want = next(expected, None) if want and want[0] == index else want
        got = next(arrived, None) if got and got[0] == index else got


def _cut(fd: int, export: Export, size: int) -> None:
    if _check_length(fd, export, size) > size and not export.block:
        os.ftruncate(fd, size)


def _check_length(fd: int, export: Export, size: int) -> int:
    """Return how long the part is; one that is too short has lost something."""
    if export.block and not devices.is_block(os.fstat(fd)):
        raise errors.InvalidDiskInfo(path=export.part, reason="it is not a block device")
    found = devices.size_bytes(fd)
    if found < size:
        expected, actual = f"{size} bytes", f"{found} bytes"
        raise errors.ImageMismatch(path=export.part, offset=found, expected=expected, actual=actual)
    return found


def _mismatch(path: str, block: Difference) -> errors.ImageMismatch:
    return errors.ImageMismatch(
        path=path,
        offset=block.index * extents.BLOCK_BYTES,
        expected=block.expected.hex(),
        actual=block.actual.hex(),
    )
