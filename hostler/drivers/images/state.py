"""Small files that must survive a power cut or stay private."""

from __future__ import annotations

import os
import secrets
import uuid
from pathlib import Path


def migration_directory(base: Path, migration: str) -> Path:
    """Return where *base* keeps what belongs to *migration*; no UUID is a :class:`ValueError`."""
    if str(uuid.UUID(migration)) != migration:
        raise ValueError(f"not a migration's UUID: {migration!r}")
    return base / migration


def private_directory(path: Path) -> Path:
    """Make *path* where missing, for its owner only, and see its name on stable storage; return it."""
    if not path.is_dir():
        private_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace *path* as one step, readable by its owner only, and see it on stable storage."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    draft.replace(path)
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove *path* if it is there, and see the removal on stable storage."""
    if path.exists() or path.is_symlink():
        path.unlink()
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Bring the entries of a directory to stable storage."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def boot(run_dir: Path) -> bytes:
    """Return 16 bytes that change when the host reboots: they lie on a file system that a reboot empties."""
    path = private_directory(run_dir) / "boot"
    if not path.exists():
        write_private(path, secrets.token_hex(16))
    return bytes.fromhex(path.read_text(encoding="ascii"))
