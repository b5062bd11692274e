"""Sends spans to an OTLP collector. No flow waits for it: what finds no room is dropped, and counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from oslo_config import cfg

from hostler.metrics.meter import Meter
from hostler.tracing.spans import SpanTracer

LOG = logging.getLogger(__name__)

#: Spans that are sent at once, and seconds after which fewer are.
BATCH = 256
DELAY_S = 2.0
#: Seconds that a worker which ends gives to what is still to be sent.
FLUSH_S = 5.0
#: Why a span was dropped.
NO_ROOM, NOT_TAKEN = "no room", "not taken"
#: Where collectors take traces, beneath the address that they are known by.
PATH = "/v1/traces"

Dropped = Callable[[str, int], None]


class Queue(BatchSpanProcessor):
    """OpenTelemetry's queue with a thread of its own; *most* spans wait, and those beyond are counted."""

    def __init__(self, exporter: SpanExporter, where: str, most: int, dropped: Dropped) -> None:
        self._most = most
        self._dropped = dropped
        self._waiting = 0
        self._counting = threading.Lock()
        batch = min(BATCH, most)
        super().__init__(
            _Sender(exporter, where, self._sent),
            max_queue_size=most + batch,  # it never fills: what it drops it would not tell
            schedule_delay_millis=DELAY_S * 1000,
            max_export_batch_size=batch,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Let the span wait for its turn, if there is room."""
        with self._counting:
            full = self._waiting >= self._most
            self._waiting += 0 if full else 1
        if full:
            self._dropped(NO_ROOM, 1)
        else:
            super().on_end(span)

    def _sent(self, count: int, taken: bool) -> None:
        with self._counting:
            self._waiting -= count
        if not taken:
            self._dropped(NOT_TAKEN, count)


class _Sender(SpanExporter):
    """Sends by another exporter, and says what became of it."""

    def __init__(self, exporter: SpanExporter, where: str, sent: Callable[[int, bool], None]) -> None:
        self._exporter = exporter
        self._where = where
        self._sent = sent
        self._took = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send; a collector that is away is told once, and once when it is back."""
        try:
            result = self._exporter.export(spans)
        except Exception:
            LOG.exception("spans cannot be sent")
            result = SpanExportResult.FAILURE
        took = result is SpanExportResult.SUCCESS
        self._sent(len(spans), took)
        if took is not self._took:
            word = "takes spans again" if took else "takes no spans: they are dropped"
            LOG.warning("the collector at %s %s", self._where, word)
            self._took = took
        return result

    def shutdown(self) -> None:
        """End the other one."""
        self._exporter.shutdown()


@contextmanager
def at_work(conf: cfg.ConfigOpts, meter: Meter) -> Iterator[SpanTracer]:
    """Give the tracer of a worker; what it has told by the end of the block is sent, as long as that may take."""
    exporter: SpanExporter = OTLPSpanExporter(
        endpoint=address(conf.tracing.endpoint),
        headers=conf.tracing.headers,
        timeout=conf.tracing.timeout,
        session=_session(conf.tracing.ca_file),
    )
    for why in (NO_ROOM, NOT_TAKEN):  # the first that is dropped is a growth only if there was a 0 before
        meter.spans_dropped(why, 0)
    parts = urlsplit(conf.tracing.endpoint)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    tracer = SpanTracer(conf.host, Queue(exporter, where, conf.tracing.queue, meter.spans_dropped))
    LOG.info("traces are sent to %s", where)
    try:
        yield tracer
    finally:
        thread = threading.Thread(target=tracer.close, name="traces", daemon=True)
        thread.start()
        thread.join(FLUSH_S)
        if thread.is_alive():
            LOG.warning("the collector at %s does not answer: the last spans are dropped", where)
            exporter.shutdown()  # it tries no more


def address(endpoint: str) -> str:
    """Return where traces go: the collector's address, or a URL that has a path of its own."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + PATH


def _session(ca_file: str | None) -> requests.Session:
    """Return a session that asks no proxy and no ``.netrc`` of the environment."""
    session = requests.Session()
    session.trust_env = False
    session.verify = ca_file or True
    return session
