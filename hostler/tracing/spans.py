"""The spans of OpenTelemetry.

::

    flow              cold_migration, from the posting to its end; told by whoever ends it
    └── turn          a host's turn, linked with the one before it: the baton
        └── step      CopyImages, or undo CopyImages

Both hosts' spans join without having spoken: the trace's id is the migration's UUID, the flow's and the turns' ids
are digests of what both know. So the parent of a turn is known long before it is told, and a worker that is killed
costs the spans that it had not sent, and no others.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from taskflow import states
from taskflow.types.failure import Failure

from hostler import __version__
from hostler.tasks.base import MigrationFacts
from hostler.tracing.tracer import Turn, TurnFacts
from hostler.views.text import shortened

LOG = logging.getLogger(__name__)

_BEGINS = {states.RUNNING: "execute", states.REVERTING: "revert"}
_ENDS = (states.SUCCESS, states.FAILURE, states.REVERTED, states.REVERT_FAILURE)
_FAILED = (states.FAILURE, states.REVERT_FAILURE)
#: How a step ended that did not: its worker was interrupted, and it is carried out again.
INTERRUPTED = "interrupted"

P = ParamSpec("P")


def trace_id(migration: str) -> int:
    """Return the trace of a migration: its UUID, as W3C's 16 bytes. A damaged job may be called anything."""
    try:
        return uuid.UUID(migration).int or 1
    except ValueError:
        return _digest(16, migration)


def span_id(*of: object) -> int:
    """Return 8 bytes that whoever knows *of* finds, too."""
    return _digest(8, *of)


def _digest(size: int, *of: object) -> int:
    """Return so many bytes as a number; 0 would be no id."""
    said = "/".join(str(one) for one in of).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=size).digest()) or 1


def _harmless(told: Callable[P, None]) -> Callable[P, None]:
    """Let nothing out: a flow never fails because somebody looks on."""

    @functools.wraps(told)
    def harmless(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            told(*args, **kwargs)
        except Exception:
            LOG.exception("something is missing in a trace")

    return harmless


class _Ids(RandomIdGenerator):
    """Ids by chance, but for a span whose id is given."""

    def __init__(self) -> None:
        self._given = threading.local()

    @contextmanager
    def giving(self, trace: int, span: int) -> Iterator[None]:
        """Let the next span of this thread have these."""
        self._given.ids = (trace, span)
        try:
            yield
        finally:
            del self._given.ids

    def generate_trace_id(self) -> int:
        """Return the given one."""
        ids = getattr(self._given, "ids", None)
        return super().generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        """Return the given one."""
        ids = getattr(self._given, "ids", None)
        return super().generate_span_id() if ids is None else ids[1]


class SpanTracer:
    """The :class:`~hostler.tracing.tracer.Tracer` of one worker: whatever ends goes to *processor*."""

    def __init__(self, host: str, processor: SpanProcessor) -> None:
        names = {"service.name": "hostler", "service.version": __version__}
        names |= {"service.instance.id": host, "host.name": host}
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource(names), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("hostler", __version__)

    def close(self) -> None:
        """Let the processor send what it has, as long as it takes."""
        self._provider.shutdown()

    @contextmanager
    def turn(self, facts: TurnFacts) -> Iterator[Turn]:
        """See :class:`~hostler.tracing.tracer.Tracer`."""
        turn = SpanTurn(self, facts)
        turn.begin()
        try:
            yield turn
        except BaseException as error:
            turn.broken_off(error)
            raise
        finally:
            turn.close()

    @contextmanager
    def owed(self, facts: TurnFacts, step: str) -> Iterator[None]:
        """See :class:`~hostler.tracing.tracer.Tracer`."""
        with SpanTurn(self, facts).undoing(step, late=True):
            yield

    def start(
        self,
        name: str,
        under: Context | None,
        ids: tuple[int, int] | None = None,
        **more: Any,
    ) -> Span:
        """Begin a span *under* another, with *ids* of trace and span, if they are given."""
        context = Context() if under is None else under  # never that of somebody else in this thread
        if ids is None:
            return self._tracer.start_span(name, context, **more)
        with self._ids.giving(*ids):
            return self._tracer.start_span(name, context, **more)


class SpanTurn:
    """The :class:`~hostler.tracing.tracer.Turn` whose steps are spans beneath its own."""

    def __init__(self, tracer: SpanTracer, facts: TurnFacts) -> None:
        self._tracer = tracer
        self._facts = facts
        self._trace = trace_id(facts.migration)
        self._flow = span_id(facts.migration, facts.flow_uuid)
        self._span: Span | None = None
        self._steps: dict[str, Span] = {}
        self._end: str | None = None

    # -- the turn -----------------------------------------------------------------------------------------

    @_harmless
    def begin(self) -> None:
        """Begin its span."""
        facts = self._facts
        ids = (self._trace, span_id(facts.migration, facts.epoch))
        before = span_id(facts.migration, facts.epoch - 1)
        links = [Link(self._context(before), {"hostler.link": "baton"})] if facts.epoch > 1 else []
        self._span = self._tracer.start(
            f"turn of {facts.host}", self._under_flow(), ids, attributes=self._attributes(), links=links
        )

    @_harmless
    def baton(self, host: str) -> None:
        """See :class:`~hostler.tracing.tracer.Turn`."""
        if self._span is not None:
            self._span.add_event("baton", {"hostler.from": self._facts.host, "hostler.to": host})

    @_harmless
    def ended(self, end: str) -> None:
        """See :class:`~hostler.tracing.tracer.Turn`."""
        self._end = end

    @_harmless
    def broken_off(self, error: BaseException) -> None:
        """Take what ended the turn on its way."""
        self._end = f"{type(error).__name__}: {error}"

    @_harmless
    def close(self) -> None:
        """End its span, and those of steps that did not end."""
        for step, span in list(self._steps.items()):
            span.set_attribute("hostler.end", INTERRUPTED)
            self._steps.pop(step).end()
        if self._span is not None:
            self._span.set_attribute("hostler.end", self._end or "")
            self._span.end()

    @_harmless
    def flow_ended(self, migration: MigrationFacts, outcome: str, began: datetime.datetime) -> None:
        """See :class:`~hostler.tracing.tracer.Turn`."""
        facts = {"hostler.server": migration.name, "hostler.outcome": outcome}
        facts |= {"hostler.source": migration.source, "hostler.dest": migration.dest}
        facts |= {"hostler.type": migration.migration_type, "hostler.request_id": migration.request_id}
        since = int(began.replace(tzinfo=datetime.UTC).timestamp() * 1e9)
        ids, attributes = (self._trace, self._flow), self._of_server() | facts
        span = self._tracer.start(self._facts.flow, None, ids, attributes=attributes, start_time=since)
        if outcome != "success":
            span.set_status(Status(StatusCode.ERROR, outcome))
        span.end()

    # -- its steps ----------------------------------------------------------------------------------------

    @_harmless
    def passed(self, state: str, details: Mapping[str, Any]) -> None:
        """See :class:`~hostler.tracing.tracer.Turn`."""
        step = details["task_name"]
        if state in _BEGINS:
            self.begin_step(step, _BEGINS[state])
        elif state in _ENDS:
            result = details.get("result")
            self.end_step(step, result if state in _FAILED else None)

    @contextmanager
    def undoing(self, step: str, *, late: bool = False) -> Iterator[None]:
        """See :class:`~hostler.tracing.tracer.Turn`; *late*: it belongs to no turn."""
        self.begin_step(step, "revert", late=late)
        try:
            yield
        except BaseException as error:
            self.end_step(step, error)
            raise
        self.end_step(step)

    @_harmless
    def begin_step(self, step: str, direction: str, *, late: bool = False) -> None:
        """Begin a step's span; *late*: it belongs to no turn."""
        more = {"hostler.step": step, "hostler.direction": direction, "hostler.late": late}
        name = step if direction == "execute" else f"undo {step}"
        under = self._under_flow() if self._span is None else set_span_in_context(self._span, Context())
        self._steps[step] = self._tracer.start(name, under, attributes=self._attributes() | more)

    @_harmless
    def end_step(self, step: str, error: object = None) -> None:
        """End a step's span. *error*: an exception, or TaskFlow's word for one."""
        span = self._steps.pop(step, None)
        if span is None:
            return
        if error is not None:
            kind, said = _told(error)
            span.add_event("exception", {"exception.type": kind, "exception.message": said})
            span.set_status(Status(StatusCode.ERROR, said))
        span.end()

    # -- underneath ---------------------------------------------------------------------------------------

    def _of_server(self) -> dict[str, Any]:
        return {"hostler.migration": self._facts.migration, "hostler.server_uuid": self._facts.instance}

    def _attributes(self) -> dict[str, Any]:
        facts = self._facts
        own = {"hostler.host": facts.host, "hostler.flow": facts.flow}
        return self._of_server() | own | {"hostler.epoch": facts.epoch, "hostler.attempt": facts.attempt}

    def _context(self, span: int) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(self._trace, span, is_remote=True, trace_flags=flags)

    def _under_flow(self) -> Context:
        return set_span_in_context(NonRecordingSpan(self._context(self._flow)), Context())


def _told(error: object) -> tuple[str, str]:
    """Return an error's class and its sentence."""
    if isinstance(error, Failure):
        return str(next(iter(error), type(error).__name__)), shortened(str(error.exception_str))
    return f"{type(error).__module__}.{type(error).__qualname__}", shortened(str(error))
