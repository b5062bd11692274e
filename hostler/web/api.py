"""The REST API: the operations of :mod:`hostler.web.openapi`."""

from __future__ import annotations

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hostler.views import listing
from hostler.views.listing import Wanted
from hostler.web import openapi, told
from hostler.web.gate import BadRequest, Forbidden, body, visitor
from hostler.web.office import Office
from hostler.web.sessions import Sessions, Visitor


class Api:
    """Answers in JSON."""

    def __init__(self, office: Office, sessions: Sessions, *, operate: bool) -> None:
        self._office = office
        self._sessions = sessions
        self._operate = operate

    def routes(self) -> list[Route]:
        """Return a route for each operation, and for the document."""
        made = [
            Route(openapi.PREFIX + one.path, getattr(self, one.name), methods=[one.method])
            for one in openapi.OPERATIONS
        ]
        return [*made, Route(f"{openapi.PREFIX}/openapi.json", self.document)]

    async def document(self, request: Request) -> JSONResponse:
        """Describe the API."""
        visitor(request, self._sessions)
        return JSONResponse(openapi.document())

    async def migrations(self, request: Request) -> JSONResponse:
        """List."""
        return await self._read(request, self._office.page, *paging(request))

    async def migration(self, request: Request) -> JSONResponse:
        """Show one."""
        return await self._read(request, self._office.find, request.path_params["uuid"])

    async def history(self, request: Request) -> JSONResponse:
        """Tell what happened."""
        return await self._read(request, self._office.history, request.path_params["uuid"])

    async def hosts(self, request: Request) -> JSONResponse:
        """List the hosts."""
        return await self._read(request, self._office.hosts)

    async def act(self, request: Request) -> JSONResponse:
        """Do it: a browser's cookie does not count here, so that no other page can make it ask."""
        who = visitor(request, self._sessions, by_cookie=False)
        try:
            asked = json.loads(await body(request) or b"{}")
        except (ValueError, RecursionError) as error:
            raise BadRequest(problem="the body is not JSON") from error
        if not isinstance(asked, dict) or not asked.keys() <= {"reason"}:
            raise BadRequest(problem='the body is {"reason": "..."}')
        uuid = await act(self._office, request, who, asked.get("reason", ""), operate=self._operate)
        return JSONResponse(told.plain(told.Accepted(uuid)))

    async def _read(self, request: Request, question: Any, *arguments: Any) -> JSONResponse:
        visitor(request, self._sessions)
        return JSONResponse(told.plain(await run_in_threadpool(question, *arguments)))


def paging(request: Request) -> tuple[Wanted, int, str | None]:
    """Return which part of the list is asked for."""
    asked = request.query_params
    try:
        limit = int(asked.get("limit") or listing.PAGE)
    except ValueError:
        limit = 0
    if not 1 <= limit <= openapi.MOST:
        raise BadRequest(problem=f"limit is a number from 1 to {openapi.MOST}")
    wanted = Wanted(
        state=asked.get("state") or None, server=asked.get("server") or None, host=asked.get("host") or None
    )
    return wanted, limit, asked.get("after") or None


async def act(office: Office, request: Request, who: Visitor, reason: Any, *, operate: bool) -> str:
    """Carry out the verb of the path for an operator; return the migration's uuid."""
    verb, name = request.path_params["verb"], request.path_params["uuid"]
    if not operate:
        raise Forbidden(why="it was started without --operate")
    if not who.token.may_operate:
        raise Forbidden(why=f"the token of {who.token.name} is a {who.token.role}'s")
    if verb not in told.VERBS:
        raise BadRequest(problem=f"there are: {', '.join(told.VERBS)}")
    if not isinstance(reason, str) or len(reason) > openapi.REASON:
        raise BadRequest(problem=f"a reason is text of {openapi.REASON} characters at most")
    if verb not in (told.RETRY, told.CONFIRM) and not reason.strip():
        raise BadRequest(problem="the history needs a reason")
    return await run_in_threadpool(office.act, verb, name, who=who.token.name, reason=reason.strip())
