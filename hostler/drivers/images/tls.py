"""Keys of the copies, and the cipher they use."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler.drivers.images import state

_VARIABLE = "GNUTLS_SYSTEM_PRIORITY_FILE"
#: Leaves AES-128-GCM on top: three times as fast as GnuTLS's own choice where the CPU has AES instructions.
_PRIORITIES = """\
[overrides]
tls-disabled-cipher = AES-256-GCM
tls-disabled-cipher = CHACHA20-POLY1305
tls-disabled-cipher = AES-128-CCM
tls-disabled-cipher = AES-256-CCM
"""


def prepare_environment(run_dir: Path | str) -> str:
    """Make GnuTLS prefer AES-128-GCM in this process and its children; return the file that says so.

    To be called before anything loads GnuTLS (``nbd``, ``libvirt``): it reads its settings once. What the
    administrator has set in the environment stays.
    """
    given = os.environ.get(_VARIABLE)
    if given is None:
        path = state.private_directory(Path(run_dir)) / "gnutls.priorities"
        state.write_private(path, _PRIORITIES)
        given = os.environ[_VARIABLE] = str(path)
    return given


def child_settings(home: Path) -> Path:
    """Write the preference that holds in this process down for a child; return the file."""
    given = os.environ.get(_VARIABLE)
    path = home / "gnutls.priorities"
    state.write_private(path, Path(given).read_text(encoding="utf-8") if given else _PRIORITIES)
    return path


def child_environment(settings: Path) -> dict[str, str]:
    """Return a small environment for nbdkit, with those *settings* and nothing of the worker's."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", _VARIABLE: str(settings)}


def new_key() -> str:
    """Return 32 random bytes, hexadecimal."""
    return secrets.token_hex(32)


def write_key(path: Path, username: str, key: str) -> None:
    """Write a GnuTLS PSK file that only its owner can read."""
    state.write_private(path, f"{username}:{key}\n")


def read_key(path: Path, username: str) -> str | None:
    """Return the key of *username*, or None where the file or the key is missing."""
    try:
        name, _, key = path.read_text(encoding="ascii").strip().partition(":")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return key if name == username and len(key) == 64 else None


@contextmanager
def key_file(run_dir: Path, username: str, key: str) -> Iterator[Path]:
    """Hold the key in a file for as long as the block lasts."""
    path = state.private_directory(run_dir) / f"{username}.send.psk"
    write_key(path, username, key)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
