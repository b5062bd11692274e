"""What Neutron says to Nova, said to hostler: *os-server-external-events* of Nova's API 2.1.

Neutron's notifier is told another address for it, and a token. Its requests are under Nova's schema, and answered as
Nova does: a code for each event, and 404 where no server of any of them is known.
"""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import Any, TypeGuard

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hostler.errors import HostlerError
from hostler.records import instances
from hostler.records.plugging import COMPLETED, FAILED, STATUSES, ServerEvent
from hostler.web.gate import BadRequest, Forbidden, Unauthenticated, body, status_of
from hostler.web.office import Office
from hostler.web.sessions import Sessions

PATH = "/v2.1/os-server-external-events"
#: Bytes of a request at most: Neutron sends at once what has happened in some seconds, 200 bytes each.
BODY = 512 * 1024
#: Letters of a name or tag.
LONGEST = 255


class Events:
    """Takes them."""

    def __init__(self, office: Office, sessions: Sessions) -> None:
        self._office = office
        self._sessions = sessions

    def route(self) -> Route:
        """Return the route."""
        return Route(PATH, self.take, methods=["POST"])

    async def take(self, request: Request) -> JSONResponse:
        """Keep those that are waited for; whoever is not let in is told that before the body is read."""
        try:
            self._admit(request)
            events = read(await body(request, BODY))
            known = await run_in_threadpool(self._office.tell_plugged, events)
        except HostlerError as error:
            return _problem(status_of(error), str(error))
        if not any(event.server in known for event in events):
            return _problem(HTTPStatus.NOT_FOUND, "no server of these events is known")
        answers = [_answer(event, known=event.server in known) for event in events]
        partly = any(answer["code"] != HTTPStatus.OK for answer in answers)
        status = HTTPStatus.MULTI_STATUS if partly else HTTPStatus.OK
        return JSONResponse({"events": answers}, status_code=status)

    def _admit(self, request: Request) -> None:
        visitor = self._sessions.of_bearer(request.headers.get("x-auth-token", ""))
        if visitor is None:
            raise Unauthenticated()
        if not visitor.token.may_tell:
            raise Forbidden(why=f"the token of {visitor.token.name} is a {visitor.token.role}'s")


def read(text: bytes) -> list[ServerEvent]:
    """Return the events of a request; what is none is :class:`~hostler.web.gate.BadRequest`."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(problem="the body is not JSON") from error
    events = told.get("events") if isinstance(told, dict) else None
    if not isinstance(events, list) or not events:
        raise BadRequest(problem='the body is {"events": [...]}')
    return [_event(event) for event in events]


def _event(told: Any) -> ServerEvent:
    if not isinstance(told, dict):
        raise BadRequest(problem="an event is an object")
    name, tag = told.get("name"), told.get("tag")
    status = told.get("status", COMPLETED)
    if not _is_word(name) or not (tag is None or _is_word(tag)):
        raise BadRequest(problem=f"name and tag of an event are text of {LONGEST} letters at most")
    if not isinstance(status, str) or status not in STATUSES:
        raise BadRequest(problem=f"the status of an event is {', '.join(STATUSES)}")
    try:
        server = str(uuid.UUID(told.get("server_uuid")))
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRequest(problem="server_uuid of an event is a UUID") from error
    return ServerEvent(name, server, tag, status)


def _is_word(text: Any) -> TypeGuard[str]:
    return isinstance(text, str) and 0 < len(text) <= LONGEST and instances.storable(text)


def _answer(event: ServerEvent, *, known: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"name": event.name, "server_uuid": event.server}
    told |= {} if event.tag is None else {"tag": event.tag}
    if known:
        return told | {"status": COMPLETED, "code": int(HTTPStatus.OK)}
    return told | {"status": FAILED, "code": int(HTTPStatus.NOT_FOUND)}


def _problem(status: int, message: str) -> JSONResponse:
    """Answer as Nova does, so that Neutron's client can read it."""
    return JSONResponse({"error": {"code": int(status), "message": message}}, status_code=int(status))
