"""What real workers send to a real OTLP/HTTP collector, and to one that is away, hangs, or says no."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import generate_latest

import hostler.tracing
from hostler.errors import BadConfiguration, Stopping
from hostler.jobboard.worker import Worker
from hostler.tasks.base import Leg
from hostler.tracing import configured, export
from lab.process import wait_until
from lab.sockets import free_port
from tests.functional.jobboard.test_metrics import Page
from tests.functional.jobboard.yard import PLACES, STEPS, StepFailed, Yard, told

TOKEN = "Bearer a-secret:of-the-collector"


@dataclass
class Collector:
    """What has come, and what is answered."""

    port: int = 0
    status: int = 200
    spans: dict[str, list[Span]] = field(default_factory=dict)  #: by the host that sent them
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    @property
    def all(self) -> list[Span]:
        return [span for spans in list(self.spans.values()) for span in spans]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.paths.add(path)
        self.headers.append(headers)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in each.resource.attributes}
            for scope in each.scope_spans:
                self.spans.setdefault(names["host.name"], []).extend(scope.spans)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Take spans on loopback as long as the block runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if collector.status == 200:
                collector.take(self.path, dict(self.headers), body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send at once, and at the end of a worker not for long."""
    monkeypatch.setattr(export, "DELAY_S", 0.1)
    monkeypatch.setattr(export, "FLUSH_S", 0.5)


def facts(span: Span) -> dict[str, Any]:
    return {
        one.key.removeprefix("hostler."): getattr(one.value, str(one.value.WhichOneof("value")))
        for one in span.attributes
    }


def is_whole(collector: Collector) -> bool:
    """Whether all steps and their undos have come, and whatever a span refers to."""
    known = {span.span_id for span in collector.all}
    wanted = {span.parent_span_id for span in collector.all if span.parent_span_id}
    wanted |= {link.span_id for span in collector.all for link in span.links}
    steps = [span for span in collector.all if "step" in facts(span)]
    return len(steps) == 2 * len(STEPS) and wanted <= known


def start(yard: Yard, host: str, endpoint: str, **settings: Any) -> Worker:
    worker, _ = yard.start_worker(host, tracing__endpoint=endpoint, **settings)
    return worker


def test_a_collector_gets_one_trace_from_two_workers(
    yard: Yard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # of the environment nothing counts
    caplog.set_level(logging.DEBUG)
    with collecting() as collector, told(failing={"verify"}):
        for host in ("kvm1", "kvm2"):
            start(yard, host, f"http://127.0.0.1:{collector.port}", tracing__headers={"authorization": TOKEN})
        migration = yard.ask()
        assert yard.wait_for_end(migration).outcome == "reverted"
        wait_until(lambda: is_whole(collector), "the whole trace", 20)
    assert {span.trace_id for span in collector.all} == {uuid.UUID(migration).bytes}
    assert collector.paths == {"/v1/traces"}
    assert {headers["authorization"] for headers in collector.headers} == {TOKEN}
    assert TOKEN.split()[1] not in caplog.text
    for host, spans in collector.spans.items():
        steps = [facts(span) for span in spans if "step" in facts(span)]
        assert {PLACES[step["step"]] for step in steps} == {"source" if host == "kvm1" else "dest"}
    by_id = {span.span_id: span for span in collector.all}
    (flow,) = [span for span in collector.all if not span.parent_span_id]
    undone = {facts(span)["step"] for span in collector.all if span.name.startswith("undo ")}
    assert undone == set(PLACES)
    for span in collector.all:
        ancestor = span
        while ancestor.parent_span_id:
            ancestor = by_id[ancestor.parent_span_id]
        assert ancestor is flow
        assert all(link.span_id in by_id for link in span.links)
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    (failed,) = [span for span in collector.all if span.events and span.events[0].name == "exception"]
    assert failed.status.message == "verify was told to fail"
    kind = {one.key: one.value.string_value for one in failed.events[0].attributes}["exception.type"]
    assert kind == f"{StepFailed.__module__}.StepFailed"


def test_a_collector_that_hangs_holds_up_neither_flow_nor_worker(yard: Yard) -> None:
    port = free_port()
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
        told(),
    ):  # it listens, and takes nothing up
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = {"tracing__queue": 1, "tracing__timeout": 600.0, "metrics__port": port}
        worker = start(yard, "kvm1", endpoint, **settings)
        start(yard, "kvm2", endpoint)
        assert yard.wait_for_end(yard.ask()).outcome == "success"
        dropped = dropped_of(worker)
        assert dropped["no room"] > 0
        assert dropped["not taken"] == 0


@pytest.mark.parametrize("status", [0, 401])
def test_a_collector_that_takes_nothing_is_told_once(
    yard: Yard, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    with collecting() as collector, told():
        collector.status = status or 200
        port = collector.port if status else free_port()  # nobody listens there
        endpoint = f"http://127.0.0.1:{port}/v1/traces"
        worker = start(yard, "kvm1", endpoint, tracing__timeout=0.5)
        start(yard, "kvm2", "")
        assert yard.wait_for_end(yard.ask()).outcome == "success"
        wait_until(lambda: dropped_of(worker)["not taken"] > 0, "spans that are dropped", 20)
        before = dropped_of(worker)["not taken"]
        assert yard.wait_for_end(yard.ask()).outcome == "success"
        wait_until(lambda: dropped_of(worker)["not taken"] > before, "more of them", 20)
    said = [record for record in caplog.records if f":{port} takes no spans" in record.getMessage()]
    assert len(said) == 1


def dropped_of(worker: Worker) -> dict[str, float]:
    page = Page(generate_latest(worker._meter.registry).decode())
    whys = ("no room", "not taken")
    return {why: page.value("hostler_dropped_spans_total", reason=why) or 0 for why in whys}


def test_a_step_that_is_taken_up_again_is_counted_and_traced_anew(yard: Yard) -> None:
    def interrupted(_leg: Leg) -> None:
        if not begun.is_set():
            begun.set()
            raise Stopping("the worker ends")

    begun = threading.Event()
    with collecting() as collector, told(during={"send": interrupted}):
        worker = start(yard, "kvm1", f"http://127.0.0.1:{collector.port}")
        start(yard, "kvm2", f"http://127.0.0.1:{collector.port}")
        assert yard.wait_for_end(yard.ask()).outcome == "success"

        def sent() -> list[str | None]:
            return [facts(span).get("end") for span in collector.all if facts(span).get("step") == "send"]

        wait_until(lambda: len(sent()) == 2, "both attempts", 20)
    assert sent() == ["interrupted", None]
    page = Page(generate_latest(worker._meter.registry).decode())
    assert page.steps("execute")["send"] == 1


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://collector.example.org:4318", "this machine alone"),
        ("collector:4318", "no address"),
        ("https://", "no address"),
        ("http://127.0.0.1:high", "could not be cast|[Pp]ort"),
    ],
)
def test_an_endpoint_that_is_none_is_refused(yard: Yard, endpoint: str, says: str) -> None:
    conf = yard.new_conf("kvm1", tracing__endpoint=endpoint)
    with pytest.raises(BadConfiguration, match=says):
        Worker(conf, yard.database, yard.drivers["kvm1"]).run()


def test_without_the_extra_it_says_what_is_to_be_installed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hostler.tracing.export", None)
    monkeypatch.delattr(hostler.tracing, "export")
    conf = yard.new_conf("kvm1", tracing__endpoint="http://localhost:4318")
    with pytest.raises(BadConfiguration) as refused:
        configured.at_work(conf, None)  # type: ignore[arg-type]
    assert refused.value.hint == "pip install 'hostler[tracing]'"
