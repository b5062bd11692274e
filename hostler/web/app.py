"""The ASGI application: pages, events, and the API."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.parse
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hostler.errors import HostlerError
from hostler.jobboard.client import Client
from hostler.views import listing
from hostler.views.listing import Wanted
from hostler.views.text import duration, printable, size, size_of
from hostler.web import api, openapi, told
from hostler.web.api import Api
from hostler.web.events import Events
from hostler.web.gate import BadRequest, Forbidden, Headers, Unauthenticated, body, status_of, visitor
from hostler.web.office import PARKED, Office, Watched
from hostler.web.sessions import COOKIE, Sessions, Visitor
from hostler.web.tokens import Tokens

LOG = logging.getLogger(__name__)

#: Between two looks at what a browser watches.
TICK_S = 0.5
#: Between two pictures of what has not changed: the time that it takes does, and a dead connection shows.
STILL_S = 5.0
#: Streams at once; whoever comes then is told to come back.
STREAMS = 100
_SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


def application(
    client: Client,
    tokens: Tokens,
    *,
    operate: bool = False,
    secure: bool = False,
    ending: Callable[[], bool] = lambda: False,
) -> Starlette:
    """Return the application.

    *secure*: it is served with TLS, and the cookie never goes without. *ending*: whether its server ends, and streams
    must not keep it.
    """
    office, sessions = Office(client), Sessions(tokens)
    pages = _Pages(office, sessions, operate=operate, secure=secure, ending=ending)
    static = Mount("/static", StaticFiles(packages=[("hostler.web", "static")]), name="static")
    told_by = Events(office, sessions).route()
    routes = [static, told_by, *Api(office, sessions, operate=operate).routes(), *pages.routes()]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Headers)],
        exception_handlers={HostlerError: pages.problem, Exception: pages.unexpected},
    )


class _Pages:
    def __init__(
        self, office: Office, sessions: Sessions, *, operate: bool, secure: bool, ending: Callable[[], bool]
    ) -> None:
        self._office = office
        self._sessions = sessions
        self._operate = operate
        self._secure = secure
        self._ending = ending
        self._streams = 0
        folder = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
        self._templates = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined)
        self._templates.filters |= {"duration": duration, "size": size, "printable": printable}
        self._templates.globals |= {"size_of": size_of, "states": listing.STATES}

    def routes(self) -> list[Route]:
        return [
            Route("/", self.overview),
            Route("/hosts", self.hosts),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/migrations/{uuid}", self.migration),
            Route("/migrations/{uuid}/graph.svg", self.drawing),
            Route("/migrations/{uuid}/live", self.live),
            Route("/migrations/{uuid}/{verb}", self.act, methods=["POST"]),
        ]

    # -- pages --------------------------------------------------------------------------------------------

    async def overview(self, request: Request) -> Response:
        who = visitor(request, self._sessions)
        wanted, limit, after = api.paging(request)
        page = await run_in_threadpool(self._office.page, wanted, limit, after)
        parked = None
        if after is None and wanted == Wanted():
            parked = await run_in_threadpool(self._office.page, Wanted(state="parked"), PARKED, None)
        asked = {key: value for key, value in request.query_params.items() if key != "after" and value}
        following = urllib.parse.urlencode({**asked, "after": page.following}) if page.following else None
        return self._page("overview.html", who, page=page, parked=parked, asked=asked, following=following)

    async def hosts(self, request: Request) -> Response:
        who = visitor(request, self._sessions)
        found = await run_in_threadpool(self._office.hosts)
        return self._page("hosts.html", who, hosts=found.hosts)

    async def migration(self, request: Request) -> Response:
        who = visitor(request, self._sessions)
        name = request.path_params["uuid"]
        one = await run_in_threadpool(self._office.find, name)
        history = await run_in_threadpool(self._office.history, name)
        operates = self._operate and who.token.may_operate and who.session is not None
        return self._page("migration.html", who, one=one, history=history.history, operates=operates)

    async def drawing(self, request: Request) -> Response:
        visitor(request, self._sessions)
        drawn = await run_in_threadpool(self._office.drawing, request.path_params["uuid"])
        headers = {"content-security-policy": _SVG_POLICY}
        return Response(drawn, media_type="image/svg+xml", headers=headers)

    async def act(self, request: Request) -> Response:
        who = visitor(request, self._sessions)
        form = await _form(request)
        if not who.proves(form.get("csrf", "")):
            raise Forbidden(why="the form is not one of this page; load it again")
        uuid = await api.act(self._office, request, who, form.get("reason", ""), operate=self._operate)
        return RedirectResponse(f"/migrations/{uuid}", status_code=303)

    # -- coming and going ---------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        if request.method == "GET":
            return self._page("login.html", None, wrong=False)
        form = await _form(request)
        key = await run_in_threadpool(self._sessions.begin, form.get("token", "").strip())
        if key is None:
            return self._page("login.html", None, status=401, wrong=True)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=self._secure)
        return answer

    async def logout(self, request: Request) -> Response:
        who = visitor(request, self._sessions)
        if not who.proves((await _form(request)).get("csrf", "")):
            raise Forbidden(why="the form is not one of this page; load it again")
        self._sessions.end(request.cookies[COOKIE])
        answer = RedirectResponse("/login", status_code=303)
        answer.delete_cookie(COOKIE)
        return answer

    # -- events -------------------------------------------------------------------------------------------

    async def live(self, request: Request) -> Response:
        """Send the migration's part of the page whenever it changes: each event has all, so none is missed."""
        visitor(request, self._sessions)
        if self._streams >= STREAMS:
            return Response(status_code=503, headers={"retry-after": "10"})
        watched = await run_in_threadpool(Watched, self._office, request.path_params["uuid"])
        return StreamingResponse(self._events(request, watched), media_type="text/event-stream")

    async def _events(self, request: Request, watched: Watched) -> AsyncIterator[str]:
        self._streams += 1
        try:
            yield "retry: 2000\n\n"
            still = STILL_S
            while not self._ending():
                visitor(request, self._sessions)  # a token may end meanwhile
                seen = await run_in_threadpool(watched.look, anyway=still >= STILL_S)
                if seen is not None:
                    still = 0.0
                    yield f"data: {json.dumps(self._event(*seen))}\n\n"
                await asyncio.sleep(TICK_S)
                still += TICK_S
        except HostlerError as error:
            LOG.info("a browser's stream ends: %s", error)  # it comes back, and is told then
        finally:
            self._streams -= 1

    def _event(self, one: told.Shown, timeline: told.Timeline | None) -> dict[str, Any]:
        """Return what the page shows anew; without *timeline* its history stays."""
        html = self._templates.get_template("live.html").render(one=one)
        event = {"html": html, "state": one.state, "verbs": one.verbs}
        if timeline is not None:
            event["history"] = self._templates.get_template("history.html").render(history=timeline.history)
        return event

    # -- what went wrong ----------------------------------------------------------------------------------

    async def problem(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HostlerError)
        status = status_of(error)
        if request.url.path.startswith(openapi.PREFIX):
            told_ = told.Problem(type(error).__name__, str(error), error.hint)
            return JSONResponse(told.plain(told_), status_code=status)
        if isinstance(error, Unauthenticated) and request.method == "GET":
            return RedirectResponse("/login", status_code=303)
        return self._page("problem.html", None, status=status, error=str(error), hint=error.hint)

    async def unexpected(self, request: Request, error: Exception) -> Response:
        LOG.error("%s cannot be answered", request.url.path, exc_info=error)
        return await self.problem(request, HostlerError("this went wrong; the log says where"))

    def _page(self, name: str, who: Visitor | None, status: int = 200, **facts: Any) -> HTMLResponse:
        csrf = who.session.csrf if who and who.session else ""
        facts |= {"who": who.token if who else None, "csrf": csrf}
        return HTMLResponse(self._templates.get_template(name).render(**facts), status_code=status)


async def _form(request: Request) -> dict[str, str]:
    try:
        return dict(urllib.parse.parse_qsl((await body(request)).decode(), max_num_fields=10))
    except ValueError as error:
        raise BadRequest(problem="the form is damaged") from error
