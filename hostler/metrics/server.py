"""Serves ``/metrics``, ``/healthz`` and ``/readyz``. It only answers GET, and knows nothing worth stealing."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from oslo_config import cfg
from prometheus_client import GCCollector, ProcessCollector, make_wsgi_app

from hostler import flows
from hostler.errors import BadConfiguration
from hostler.metrics.health import Health
from hostler.metrics.meter import Meter
from hostler.metrics.readings import Readings
from hostler.records.database import Database

LOG = logging.getLogger(__name__)

#: Answers that are given at once; whoever comes beside them is sent away.
PLACES = 8
#: Seconds that a client may be silent while it asks.
SILENCE_S = 5


def application(meter: Meter, readings: Readings, health: Health) -> WSGIApplication:
    """Return what answers the three paths."""
    metrics: WSGIApplication = make_wsgi_app(meter.registry)
    probes: dict[str, Callable[[], str | None]] = {
        "/healthz": health.sick,
        "/readyz": lambda: health.unready(readings),
    }

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] != "GET":
            return _say(start, "405 Method Not Allowed", "only GET", ("Allow", "GET"))
        if path == "/metrics":
            return metrics(environ, start)
        if path not in probes:
            return _say(start, "404 Not Found", "there are /metrics, /healthz and /readyz")
        wrong = probes[path]()
        return _say(start, "503 Service Unavailable" if wrong else "200 OK", wrong or "ok")

    return answer


def _say(start: StartResponse, status: str, text: str, *headers: tuple[str, str]) -> list[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [f"{text}\n".encode()]


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        LOG.debug("%s: %s", self.address_string(), format % args)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._places = threading.BoundedSemaphore(PLACES)
        super().__init__(*arguments, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.debug("a request for metrics broke off", exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


def at_work(
    conf: cfg.ConfigOpts, database: Database, meter: Meter, health: Health
) -> AbstractContextManager[None]:
    """Serve by the settings as long as the block runs; nothing is done where no port is set."""
    if not conf.metrics.port:
        return nullcontext()
    readings = Readings(database, conf.metrics.keep)
    meter.registry.register(readings)
    for flow in flows.FLOWS:
        meter.flow_may_run(flow, [step.name for step in flows.shape_of(flow)])
    meter.loop_overdue.set_function(health.overdue_s)
    meter.connected.set_function(health.in_touch)
    ProcessCollector(registry=meter.registry)
    GCCollector(registry=meter.registry)
    return _serving(conf.metrics.listen, conf.metrics.port, application(meter, readings, health))


@contextmanager
def _serving(address: str, port: int, app: WSGIApplication) -> Iterator[None]:
    kind = _Server6 if _is_ipv6(address) else _Server
    try:
        server = make_server(address, port, app, server_class=kind, handler_class=_Handler)
    except OSError as error:
        problem = f"{address}, port {port}: {error.strerror or error}"
        hint = f"ss -tlnp sport = {port}; set [metrics] listen and port to what is free, or port to 0"
        raise BadConfiguration(where="[metrics]", problem=problem, hint=hint) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    LOG.info("metrics are served at %s, port %d", address, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_ipv6(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 6
    except ValueError:
        return False
