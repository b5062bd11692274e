"""Who may look, and who may act: tokens, of which only the digests are kept.

A line for each: ``ROLE NAME EXPIRES SHA256``, where EXPIRES is a day (``2026-12-31``, its end in UTC) or ``never``. A
token has 256 bits by chance, so a plain digest tells nothing of it. The file is read again when it changes: a line
that is removed ends that token's sessions, too.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
import secrets
import shlex
import threading
from dataclasses import dataclass
from pathlib import Path

from hostler.errors import BadConfiguration, Refused

READER = "reader"
OPERATOR = "operator"
SERVICE = "service"
ROLES = (READER, OPERATOR, SERVICE)
NEVER = "never"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_FIELDS = 4


class TokenNameInvalid(Refused):
    """The history says who acted: the name is one word that nobody misreads."""

    template = "{name!r} is no name for a token: letters, digits and . _ @ -, at most 64"
    hint_template = "hostler token create NAME --role reader"


@dataclass(frozen=True)
class Token:
    """One line of the file."""

    role: str
    name: str  #: whose it is; the history names it
    expires: datetime.date | None  #: its last day, in UTC; None: never
    digest: str

    @property
    def expired(self) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and datetime.datetime.now(datetime.UTC).date() > self.expires

    @property
    def may_operate(self) -> bool:
        """Whether it may do more than look."""
        return self.role == OPERATOR

    @property
    def may_look(self) -> bool:
        """Whether it may see anything: what services tell with says nothing of what there is."""
        return self.role != SERVICE

    @property
    def may_tell(self) -> bool:
        """Whether it may say what happened to servers."""
        return self.role == SERVICE

    def line(self) -> str:
        """Return it as the file has it."""
        return f"{self.role} {self.name} {self.expires or NEVER} {self.digest}"


def digest(secret: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


def issue(path: Path, name: str, role: str, days: int | None) -> str:
    """Make a token that is good for so many days (None: for ever), add its line to the file, and return it."""
    if not _NAME.match(name):
        raise TokenNameInvalid(name=name)
    today = datetime.datetime.now(datetime.UTC).date()
    expires = None if days is None else today + datetime.timedelta(days=days)
    secret = secrets.token_urlsafe(32)
    line = Token(role, name, expires, digest(secret)).line() + "\n"
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # one write of one line: two commands at once both keep theirs
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)
    except OSError as error:
        hint = shlex.join(["sudo", "hostler", "token", "create", name, "--role", role])
        raise BadConfiguration(where=str(path), problem=error.strerror or str(error), hint=hint) from error
    return secret


class Tokens:
    """The tokens of a file, as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: list[Token] = []
        self.read()

    def read(self) -> None:
        """Read the file if it has changed; a damaged one is :class:`~hostler.errors.BadConfiguration`."""
        hint = "hostler token create NAME --role reader"
        try:
            with self._lock:
                found = self._path.stat()
                stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
                if stamp != self._stamp:
                    lines = self._path.read_text(encoding="utf-8").splitlines()
                    self._tokens = _parsed(str(self._path), lines)
                    self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            raise BadConfiguration(where=str(self._path), problem=problem, hint=hint) from error

    def known(self, digested: str) -> Token | None:
        """Return the token of that digest, if it is good today."""
        self.read()
        found = [one for one in self._tokens if hmac.compare_digest(one.digest, digested)]
        return found[-1] if found and not found[-1].expired else None


def _parsed(where: str, lines: list[str]) -> list[Token]:
    """Return the tokens of a file's lines; an empty one and one that begins with # say nothing."""
    found = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            found.append(_token(words))
        except ValueError as error:
            hint = "hostler token create NAME --role reader"
            raise BadConfiguration(where=f"{where}, line {number}", problem=str(error), hint=hint) from error
    return found


def _token(words: list[str]) -> Token:
    if len(words) != _FIELDS:
        raise ValueError("a line is ROLE NAME EXPIRES SHA256")
    role, name, expires, digested = words
    if role not in ROLES:
        raise ValueError(f"the role is one of {', '.join(ROLES)}")
    if not _NAME.match(name) or not _DIGEST.match(digested):
        raise ValueError("neither a name nor a SHA-256 digest may look like that")
    return Token(role, name, None if expires == NEVER else datetime.date.fromisoformat(expires), digested)
