"""Sessions of browsers: a cookie that stands for a token, and what proves that a form is our own."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from hostler.web.tokens import Token, Tokens, digest

COOKIE = "hostler_session"
#: Seconds after which whoever did not return has to show the token again.
IDLE_S = 12 * 3600
#: Sessions kept; the one that was used longest ago goes first.
MOST = 1000


@dataclass
class Session:
    """One browser's. It ends with its token."""

    digest: str
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    used: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Visitor:
    """Who asks: a token, and the session by which it came; None: the token was in the request itself."""

    token: Token
    session: Session | None = None

    def proves(self, csrf: str) -> bool:
        """Whether a form that says *csrf* is one of ours."""
        return self.session is not None and hmac.compare_digest(self.session.csrf.encode(), csrf.encode())


class Sessions:
    """All sessions of this process, in memory: after a restart the token is asked for again."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def begin(self, secret: str) -> str | None:
        """Return a new session's key; None if nobody knows the token."""
        digested = digest(secret)
        token = self._tokens.known(digested)
        if token is None or not token.may_look:
            return None
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[digest(key)] = Session(digested)
            while len(self._sessions) > MOST:
                self._sessions.popitem(last=False)
        return key

    def end(self, key: str) -> None:
        """Forget it."""
        with self._lock:
            self._sessions.pop(digest(key), None)

    def of_cookie(self, key: str) -> Visitor | None:
        """Return who has that session, if it is known, in use, and its token still good."""
        with self._lock:
            session = self._sessions.get(digest(key))
            if session is None or time.monotonic() - session.used > IDLE_S:
                return None
            session.used = time.monotonic()
            self._sessions.move_to_end(digest(key))
        token = self._tokens.known(session.digest)
        return None if token is None else Visitor(token, session)

    def of_bearer(self, secret: str) -> Visitor | None:
        """Return who has that token, if it is good."""
        token = self._tokens.known(digest(secret))
        return None if token is None else Visitor(token)
