"""What the doctor finds."""

from __future__ import annotations

import dataclasses
import enum
import shlex
from dataclasses import dataclass
from typing import Any

from hostler.objects import Record

#: Fields of a finding that several share.
Facts = dict[str, Any]


class Severity(enum.StrEnum):
    """How bad it is."""

    INFO = "info"  #: goes away by itself, or harms nobody; all is clean nevertheless
    WARNING = "warning"  #: garbage, or something that waits
    ERROR = "error"  #: a server may be lost, or run twice


@dataclass(frozen=True)
class Finding(Record):
    """One thing that is not as it should be."""

    kind: str  #: a word for scripts: ``part``, ``aside``, ``defined-twice``, ...
    host: str  #: where it is; empty for what is no host's
    object: str  #: a path, a UUID, a node: what it is about
    text: str  #: a sentence for the operator
    command: str  #: what mends it, or leads to what does
    severity: Severity = Severity.WARNING
    safe: bool = False  #: ``hostler doctor --fix`` mends it
    migration: str = ""
    instance: str = ""  #: the server's UUID
    mended: bool = False

    @property
    def key(self) -> str:
        """Tells it from every other finding."""
        return " ".join((self.kind, self.host, self.object))

    @property
    def needs_operator(self) -> bool:
        """Whether it is left to be done."""
        return not self.mended and self.severity is not Severity.INFO

    def left(self, reason: str) -> Finding:
        """Return the finding with why it could not be mended."""
        return dataclasses.replace(self, text=f"{self.text}; it was left: {reason}")


def fixable(**facts: Any) -> Finding:
    """Return a finding that ``hostler doctor --fix`` mends."""
    host = str(facts["host"])
    words = ["hostler", "doctor", "--fix", *(["--host", host] if host else [])]
    return Finding(command=shlex.join(words), safe=True, **facts)


def on(host: str, *words: str) -> str:
    """Return what to type on a host."""
    return f"on {host}: {shlex.join(words)}"


def migration(verb: str, uuid: str) -> str:
    """Return a command about a migration."""
    return shlex.join(["hostler", "migration", verb, uuid])


def start_worker(host: str) -> str:
    """Return how a host's worker is started."""
    return on(host, "systemctl", "start", "hostler-worker")


def worker_log(host: str) -> str:
    """Return where a host's worker says what it is about."""
    return on(host, "journalctl", "-u", "hostler-worker")
