"""A proxy before a service: lets requests through, or answers, delays and loses them as a test wishes."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

#: What becomes of a request. ``hang`` and ``cut``: it never reaches the service; ``lose``: it does, its answer is lost.
WAYS = ("500", "503", "hang", "cut", "lose")


@dataclass
class Trouble:
    """What happens to the next requests whose line (``POST /allocations``) *pattern* is found in."""

    way: str  #: one of `WAYS`, or any other status
    pattern: str = ""
    skip: int = 0  #: how many of them pass first
    times: int = 1
    body: str = "{}"
    before: Callable[[], object] | None = None  #: done first


class Obstacle:
    """The proxy; *seen* are the lines of the requests that came."""

    def __init__(self, upstream: str, port: int) -> None:
        self.upstream = upstream
        self.url = f"http://127.0.0.1:{port}"
        self.seen: list[str] = []
        self.troubles: list[Trouble] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def expect(self, trouble: Trouble) -> None:
        """Make trouble."""
        self.troubles.append(trouble)

    def clear(self) -> None:
        """Let everything through from now on, and forget what came."""
        with self._lock:
            self.troubles.clear()
            self.seen.clear()

    def trouble_for(self, line: str) -> Trouble | None:
        """Return what happens to this request; None if it passes."""
        with self._lock:
            self.seen.append(line)
            for trouble in self.troubles:
                if not re.search(trouble.pattern, line) or not trouble.times:
                    continue
                if trouble.skip:
                    trouble.skip -= 1
                    return None
                trouble.times -= 1
                return trouble
        return None


@contextmanager
def obstacle(upstream: str) -> Iterator[Obstacle]:
    """Stand before the service at *upstream*."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    made = Obstacle(upstream, server.server_port)
    server.obstacle = made  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        made: Obstacle = self.server.obstacle  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        trouble = made.trouble_for(f"{self.command} {self.path}")
        if trouble is not None and trouble.before is not None:
            trouble.before()
        way = "pass" if trouble is None else trouble.way
        if way == "hang":
            made.over.wait()
        if way in ("hang", "cut"):
            self.close_connection = True
            return
        if trouble is not None and way != "lose":
            self._answer(int(way), trouble.body.encode(), "application/json")
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        answer = requests.request(
            self.command, f"{made.upstream}{self.path}", data=body, headers=headers, timeout=120
        )
        if way == "lose":
            self.close_connection = True
            return
        self._answer(answer.status_code, answer.content, answer.headers.get("Content-Type", ""))

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 - http.server's names

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)
