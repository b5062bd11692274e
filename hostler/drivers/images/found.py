"""What an older copy holds: read from this host's disk, and written down as the beginning of a ledger.

So the source compares each block with what it has, and sends what differs. Nothing that was noted when the copy was
made is believed: it may have been written to since, or its disk may have lost something.
"""

from __future__ import annotations

import os
from pathlib import Path

from hostler.drivers import devices
from hostler.drivers.images import Checkpoint, extents, ledger


def take_stock(part: Path, size: int, kept: Path, boot: bytes, checkpoint: Checkpoint) -> None:
    """Write to *kept*, at once or not at all, what lies in the first *size* bytes of the file *part*.

    It is on stable storage first: what is read counts for good, also if this host goes down.
    """
    fd = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        # Its own length: the last block's hash tells how long it is.
        length = min(os.fstat(fd).st_size, size)
        os.ftruncate(fd, length)
        os.fsync(fd)
        devices.forget_cache(fd)
        hashed = extents.hashed_blocks(fd, length, checkpoint)
        draft = kept.with_name(f"{kept.name}.new")
        draft.unlink(missing_ok=True)
        draft.touch(0o600)
        with draft.open("wb") as file:
            file.writelines(ledger.found_frames(hashed, boot))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(kept)
    finally:
        os.close(fd)
