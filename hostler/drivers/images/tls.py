"""Keys of the copies, and the cipher they use."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hostler.drivers.images import state
from hostler.objects import Identity

LOG = logging.getLogger(__name__)

_KEY = "key.psk"
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


class Keys(Protocol):
    """How the receivers of a host know their sources. *home* is a directory that each migration has."""

    def make(self, home: Path, migration: str, peer: str, identity: Identity) -> None:
        """Make the key of a migration where there is none, for the host at the address *peer*.

        One that is not *identity*, where that has to be proven, is :class:`hostler.errors.ReceiverUnavailable`.
        """

    def read(self, home: Path, migration: str) -> str | None:
        """Return what the source is told; None where it is missing, empty where nothing is encrypted."""

    def remove(self, home: Path) -> None:
        """Forget it."""

    def lay_out(self, home: Path, place: Path, migration: str) -> dict[Path, Path]:
        """Return the files that nbdkit reads, which lie in *place*, by names below *home*."""

    def arguments(self, home: Path) -> list[str]:
        """Return what nbdkit is told, which sees *home* there."""


class SharedKeys:
    """A key for each copy, TLS-PSK: whoever has it is the source."""

    def make(self, home: Path, migration: str, _peer: str, _identity: Identity) -> None:
        """Make it where there is none."""
        if self.read(home, migration) is None:
            write_key(home / _KEY, migration, new_key())

    def read(self, home: Path, migration: str) -> str | None:
        """Return it, hexadecimal."""
        return read_key(home / _KEY, migration)

    def remove(self, home: Path) -> None:
        """Forget it."""
        state.remove(home / _KEY)

    def lay_out(self, home: Path, place: Path, _migration: str) -> dict[Path, Path]:
        """Write it for nbdkit's user, too."""
        if place != home:
            state.write_private(place / _KEY, (home / _KEY).read_text(encoding="ascii"))
        return {home / _KEY: place / _KEY}

    def arguments(self, home: Path) -> list[str]:
        """Return what nbdkit is told."""
        return ["--tls=require", f"--tls-psk={home / _KEY}"]


class NoKeys:
    """Nothing is encrypted, and nobody proves anything."""

    def make(self, _home: Path, migration: str, _peer: str, _identity: Identity) -> None:
        """Complain."""
        LOG.warning("the images of migration %s arrive unencrypted: [images] encrypt is false", migration)

    def read(self, _home: Path, _migration: str) -> str:
        """Return nothing."""
        return ""

    def remove(self, home: Path) -> None:
        """Forget nothing."""

    def lay_out(self, _home: Path, _place: Path, _migration: str) -> dict[Path, Path]:
        """Return nothing."""
        return {}

    def arguments(self, _home: Path) -> list[str]:
        """Return what nbdkit is told."""
        return ["--tls=off"]


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
