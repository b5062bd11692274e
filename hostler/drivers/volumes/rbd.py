"""Locks of RBD images, as Ceph's own program ``rbd`` tells of them: argument lists and JSON, no shell.

librbd takes an image's exclusive lock when a guest first writes, and gives it up when the guest's process ends. One
that is still there has another client behind it, or one that died: a new client then breaks the lock by itself, if
Ceph's capabilities let it, and else every write of the guest fails. None is broken here.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from hostler.errors import MigrationError
from hostler.objects import Secret, Volume

#: Seconds that Ceph has for an answer: its clients would wait for minutes.
TIMEOUT_S = 20.0
PROGRAM = "rbd"


@dataclass(frozen=True)
class Lock:
    """Who holds an image."""

    id: str  #: ``auto 139643345791728``: librbd's own; any other was taken by hand
    client: str  #: ``client.4123``
    address: str
    watched: bool  #: its client still speaks to Ceph, which believes a dead one for 30 s

    def __str__(self) -> str:
        return f"{self.client} at {self.address} ({self.id})"


class Locks(Protocol):
    """The locks of network volumes. What cannot be told is :class:`hostler.errors.MigrationError`."""

    def of(self, volume: Volume) -> list[Lock]:
        """Return them; none for what knows no locks."""

    def breaking(self, volume: Volume, lock: Lock) -> str:
        """Return the command that breaks it, for whoever knows that nobody needs it."""


class RbdLocks:
    """The :class:`Locks` of Ceph's images, by the program ``rbd``.

    *value*: tells what libvirt keeps of a secret; None if that is not told, and then the program looks for a key by
    itself, in :file:`/etc/ceph`. The key is passed through a pipe of memory, and lies in no file.
    """

    def __init__(
        self,
        value: Callable[[Secret], bytes | None],
        program: str = PROGRAM,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._value = value
        self._program = program
        self._timeout_s = timeout_s

    def of(self, volume: Volume) -> list[Lock]:
        """Return the locks of an image; none of any other volume."""
        if volume.protocol != "rbd":
            return []
        found = self._ask(volume, "lock", "ls")
        if not found:
            return []
        if isinstance(found, dict):  # before Ceph 14
            found = [{"id": name, **facts} for name, facts in found.items()]
        told = self._ask(volume, "status").get("watchers", [])
        watchers = {one["address"] for one in (told.values() if isinstance(told, dict) else told)}
        return [Lock(one["id"], one["locker"], one["address"], one["address"] in watchers) for one in found]

    def breaking(self, volume: Volume, lock: Lock) -> str:
        """Return ``rbd lock rm``, as a shell takes it."""
        return shlex.join([PROGRAM, *_where(volume), "lock", "rm", volume.name, lock.id, lock.client])

    def _ask(self, volume: Volume, *words: str) -> Any:
        with self._key(volume) as key:
            given = ["--keyfile", f"/proc/self/fd/{key}"] if key is not None else []
            command = [self._program, *_where(volume), *given, "--format", "json", *words, *_image(volume)]
            try:
                told = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=self._timeout_s,
                    check=True,
                    pass_fds=[key] if key is not None else [],
                )
                return json.loads(told.stdout)
            except FileNotFoundError as error:
                problem = "who has locked it cannot be seen without the program rbd: apt install ceph-common"
                raise MigrationError(problem) from error
            except subprocess.TimeoutExpired as error:
                # its client keeps on trying in both cases
                reason = (
                    f"Ceph does not answer in {self._timeout_s:.0f} s: it is away, or does not take the key"
                )
                raise MigrationError(reason) from error
            except (subprocess.CalledProcessError, ValueError) as error:
                raise MigrationError(f"Ceph refuses: {_last_words(error)}") from error

    @contextmanager
    def _key(self, volume: Volume) -> Iterator[int | None]:
        """Give the descriptor of a file in memory that holds the key of the volume's user; None if libvirt has none."""
        secret = volume.secrets[0] if volume.user and volume.secrets else None
        value = self._value(secret) if secret is not None else None
        if value is None:
            yield None
            return
        descriptor = os.memfd_create("key")
        try:
            os.write(descriptor, base64.b64encode(value))  # as Ceph writes it; libvirt keeps what it means
            yield descriptor
        finally:
            os.close(descriptor)


def _where(volume: Volume) -> list[str]:
    """Return how the cluster is reached, as libvirt tells QEMU."""
    words = ["--conf", volume.config] if volume.config else []
    words += ["-m", ",".join(volume.hosts)] if volume.hosts else []
    return words + (["--id", volume.user] if volume.user else [])


def _image(volume: Volume) -> list[str]:
    """Return the image; what libvirt has beyond its name are settings of the client."""
    pool, _, rest = volume.name.partition("/")
    space, _, image = rest.rpartition("/")
    return [f"--pool={pool}", *([f"--namespace={space}"] if space else []), f"--image={image}"]


def _last_words(error: subprocess.CalledProcessError | ValueError) -> str:
    said = error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else ""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else str(error)
