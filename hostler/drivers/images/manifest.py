"""The block manifest: what a file's contents are, 40 bytes for each 4 MiB that are not zeros.

Layout, little-endian::

    magic  version  block size  file size  allocated  entries  migration  digest  checksum     120 bytes
    index  hash of the block                                                                    40 bytes each

Entries ascend by index. A block that is not listed is all zeros, whether it was a hole or written zeros: so
the digest does not depend on how a file system lays holes out. *digest* is BLAKE3 over version, file size and
entries; *checksum* is BLAKE3 over the header before it and the entries. What follows the last entry is
ignored: on the destination the manifest's file has room for the largest possible one.
"""

from __future__ import annotations

import struct
import uuid
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from hostler import errors
from hostler.drivers.images.extents import BLOCK_BYTES

VERSION = 2
_MAGIC = b"HOSTLER\x01"
_HEAD = struct.Struct("<8sIIQQQ16s32s")
_CHECKSUM_BYTES = 32
_ENTRY = struct.Struct("<Q32s")
_CHUNK_BYTES = _ENTRY.size * 4096


def upper_bound(size_bytes: int) -> int:
    """Return how long the manifest of a file of at most *size_bytes* can be."""
    return _HEAD.size + _CHECKSUM_BYTES + _ENTRY.size * -(-size_bytes // BLOCK_BYTES)


def entry(index: int, block_hash: bytes) -> bytes:
    """Return one entry of a manifest's body."""
    return _ENTRY.pack(index, block_hash)


def body_of(blocks: Iterable[tuple[int, bytes]]) -> bytearray:
    """Return the body made of indexes and hashes, which ascend."""
    body = bytearray()
    for index, block_hash in blocks:
        body += _ENTRY.pack(index, block_hash)
    return body


def body_from_arrays(indexes: array[int], hashes: bytearray) -> bytearray:
    """Return the body of *indexes*, whose hashes stand, 32 bytes each, in *hashes*; zeros: not listed."""
    none = bytes(32)
    slots = ((index, bytes(hashes[32 * slot : 32 * slot + 32])) for slot, index in enumerate(indexes))
    return body_of((index, found) for index, found in slots if found != none)


def content_digest(size_bytes: int, body: Iterable[bytes]) -> str:
    """Return the digest of a file's contents, hexadecimal."""
    digest = blake3(struct.pack("<IQ", VERSION, size_bytes))
    for chunk in body:
        digest.update(chunk)
    found: str = digest.hexdigest()
    return found


def pack(migration: str, size_bytes: int, allocated_bytes: int, body: bytes | bytearray) -> bytes:
    """Return the whole manifest."""
    head = _HEAD.pack(
        _MAGIC,
        VERSION,
        BLOCK_BYTES,
        size_bytes,
        allocated_bytes,
        len(body) // _ENTRY.size,
        uuid.UUID(migration).bytes,
        bytes.fromhex(content_digest(size_bytes, [bytes(body)])),
    )
    return b"".join((head, blake3(head).update(body).digest(), body))


@dataclass(frozen=True)
class Manifest:
    """A manifest on this host's disk that was found whole."""

    path: Path
    size_bytes: int
    allocated_bytes: int
    count: int
    digest: str

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Yield index and hash of each block that is not zeros, ascending, in constant memory."""
        for chunk in _body(self.path, self.count):
            yield from _ENTRY.iter_unpack(chunk)


def load(path: Path, migration: str) -> Manifest:
    """Return the manifest of *migration* at *path*.

    One that is damaged, cut, of another migration or of another format is
    :class:`hostler.errors.InvalidDiskInfo`.
    """
    try:
        with path.open("rb") as file:
            head, checksum = file.read(_HEAD.size), file.read(_CHECKSUM_BYTES)
    except OSError as error:
        raise errors.InvalidDiskInfo(
            path=str(path), reason=f"the manifest cannot be read: {error.strerror}"
        ) from error
    manifest = _parse(path, head, migration)
    seal = blake3(head)
    for chunk in _body(path, manifest.count):
        seal.update(chunk)
    if seal.digest() != checksum:
        raise errors.InvalidDiskInfo(path=str(path), reason="the manifest is damaged")
    _check_entries(manifest)
    return manifest


def _parse(path: Path, head: bytes, migration: str) -> Manifest:
    if len(head) != _HEAD.size or not any(head):
        raise errors.InvalidDiskInfo(path=str(path), reason="the manifest has not arrived")
    magic, version, block_bytes, size, allocated, count, owner, digest = _HEAD.unpack(head)
    if magic != _MAGIC or version != VERSION or block_bytes != BLOCK_BYTES:
        raise errors.InvalidDiskInfo(path=str(path), reason=f"this is no block manifest of version {VERSION}")
    if owner != uuid.UUID(migration).bytes:
        reason = f"the manifest belongs to migration {uuid.UUID(bytes=owner)}, not {migration}"
        raise errors.InvalidDiskInfo(path=str(path), reason=reason)
    return Manifest(path, size, allocated, count, digest.hex())


def _check_entries(manifest: Manifest) -> None:
    previous = -1
    for index, _ in manifest.entries():
        if not previous < index < -(-manifest.size_bytes // BLOCK_BYTES):
            raise errors.InvalidDiskInfo(
                path=str(manifest.path), reason=f"the manifest lists block {index} out of place"
            )
        previous = index
    found = content_digest(manifest.size_bytes, _body(manifest.path, manifest.count))
    if found != manifest.digest:
        raise errors.InvalidDiskInfo(
            path=str(manifest.path), reason="the manifest contradicts its own digest"
        )


def _body(path: Path, count: int) -> Iterator[bytes]:
    left = count * _ENTRY.size
    with path.open("rb") as file:
        file.seek(_HEAD.size + _CHECKSUM_BYTES)
        while left:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk or len(chunk) % _ENTRY.size:
                raise errors.InvalidDiskInfo(path=str(path), reason="the manifest is cut short")
            left -= len(chunk)
            yield chunk
