"""What stands before every page: the token, the headers, and errors that become an answer."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hostler import errors
from hostler.errors import HostlerError, Refused
from hostler.web.sessions import COOKIE, Sessions, Visitor

#: Bytes of a request's body at most.
BODY = 64 * 1024

POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


class Unauthenticated(Refused):
    """Nobody, or nobody known: the token is missing, wrong or expired, and which is not told."""

    template = "a token is needed; this one, if there was any, is wrong or has expired"
    hint_template = "hostler token create NAME --role reader"


class Forbidden(Refused):
    """Whoever it is may not do that."""

    template = "this is not allowed: {why}"
    hint_template = "hostler token create NAME --role operator"


class BadRequest(Refused):
    """The request is none."""

    template = "{problem}"
    hint_template = "hostler web --help"


_STATUS: tuple[tuple[type[HostlerError], HTTPStatus], ...] = (
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (BadRequest, HTTPStatus.BAD_REQUEST),
    (errors.MigrationStateNotKnown, HTTPStatus.BAD_REQUEST),
    (errors.MigrationNotFound, HTTPStatus.NOT_FOUND),
    (errors.InstanceNotFound, HTTPStatus.NOT_FOUND),
    (errors.ComputeHostNotFound, HTTPStatus.NOT_FOUND),
    (errors.BadConfiguration, HTTPStatus.SERVICE_UNAVAILABLE),
    (Refused, HTTPStatus.CONFLICT),
    (errors.Passing, HTTPStatus.SERVICE_UNAVAILABLE),
)


def status_of(error: HostlerError) -> int:
    """Return the HTTP status of an error."""
    found = (status for kind, status in _STATUS if isinstance(error, kind))
    return int(next(found, HTTPStatus.INTERNAL_SERVER_ERROR))


def visitor(request: Request, sessions: Sessions, *, by_cookie: bool = True) -> Visitor:
    """Return who asks; :class:`Unauthenticated` if nobody knows. What acts takes no cookie without a proof."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found = sessions.of_bearer(secret.strip())
    else:
        key = request.cookies.get(COOKIE, "") if by_cookie else ""
        found = sessions.of_cookie(key) if key else None
    if found is None:
        raise Unauthenticated()
    if not found.token.may_look:
        raise Forbidden(
            why=f"the token of {found.token.name} is a {found.token.role}'s, and no page is for it"
        )
    return found


async def body(request: Request, most: int = BODY) -> bytes:
    """Return the body; one of more than *most* bytes is refused before it is read."""
    found = b""
    async for chunk in request.stream():
        found += chunk
        if len(found) > most:
            raise BadRequest(problem=f"a request has {most} bytes at most")
    return found


class Headers:
    """Puts the headers on every answer that has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(one for one in more if one[0] not in there)]
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "http" else send)
