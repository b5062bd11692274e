"""One trace a migration: two hosts tell of it apart, each its own collector, and what the two have joins."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hostler.errors import MigrationError, SessionLost, Stopping
from hostler.flows import shape_of
from hostler.jobboard.leg import End
from hostler.objects import SOURCE
from hostler.tracing.spans import SpanTracer
from hostler.tracing.tracer import TurnFacts
from tests.support.world import World, failing, step

SHAPE = shape_of("cold_migration")


class Told:
    """What each host has told."""

    def __init__(self, world: World) -> None:
        self.exporters = {host: InMemorySpanExporter() for host in world.hosts}
        for host, exporter in self.exporters.items():
            world.tracers[host] = SpanTracer(host, SimpleSpanProcessor(exporter))

    def of(self, *hosts: str) -> list[ReadableSpan]:
        """Return what these have told, or all of them, in the order in which it ended."""
        wanted = hosts or tuple(self.exporters)
        spans = [span for host in wanted for span in self.exporters[host].get_finished_spans()]
        return sorted(spans, key=lambda span: span.end_time or 0)

    @property
    def flows(self) -> list[ReadableSpan]:
        return [span for span in self.of() if span.parent is None]

    @property
    def turns(self) -> list[ReadableSpan]:
        return [span for span in self.of() if span.name.startswith("turn of ")]

    def steps(self, direction: str) -> list[ReadableSpan]:
        return [span for span in self.of() if fact(span, "direction") == direction]


def fact(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {}).get(f"hostler.{name}")


def names(spans: Sequence[ReadableSpan]) -> list[object]:
    return [fact(span, "step") for span in spans]


def number_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


@pytest.fixture
def told(world: World) -> Told:
    return Told(world)


def test_both_hosts_spans_are_one_trace(world: World, told: Told) -> None:
    migration = world.migrate(world.add_server())
    spans = told.of()
    assert {span.context.trace_id for span in spans if span.context} == {uuid.UUID(migration.uuid).int}
    assert len({number_of(span) for span in spans}) == len(spans)

    (flow,) = told.flows
    assert (flow.name, fact(flow, "outcome"), fact(flow, "server")) == ("cold_migration", "success", "web1")
    assert flow.status.is_ok or flow.status.is_unset
    assert all(parent_of(turn) == number_of(flow) for turn in told.turns)
    assert (flow.start_time or 0) <= min(turn.start_time or 0 for turn in told.turns)

    turns = {number_of(turn): turn for turn in told.turns}
    steps = told.steps("execute")
    assert names(steps) == [one.name for one in SHAPE]
    for one, span in zip(SHAPE, steps, strict=True):
        host = "kvm1" if one.where == SOURCE else "kvm2"
        assert (fact(span, "host"), span.resource.attributes["host.name"]) == (host, host)
        assert fact(turns[parent_of(span) or 0], "host") == host
    assert not told.steps("revert")


def test_a_baton_links_a_turn_with_the_one_before_it_on_the_other_host(world: World, told: Told) -> None:
    world.migrate(world.add_server())
    turns = told.turns
    assert not turns[0].links
    for before, turn in itertools.pairwise(turns):
        (link,) = turn.links
        assert link.context.span_id == number_of(before)
        assert fact(before, "host") != fact(turn, "host")
        (baton,) = before.events
        assert baton.attributes == {
            "hostler.from": fact(before, "host"),
            "hostler.to": fact(turn, "host"),
        }
        assert fact(before, "end") == End.HANDED_OVER.value
    assert fact(turns[-1], "end") == End.FINISHED.value


def test_a_failure_and_each_undo_are_seen_where_they_were(world: World, told: Told) -> None:
    world.add_server()
    with failing(step("cold_migration", "HandOver"), MigrationError("no <room>"), when="before"):
        migration = world.migrate("web1")
    assert migration.outcome == "reverted"
    (failed,) = [span for span in told.steps("execute") if not span.status.is_unset]
    assert (fact(failed, "step"), fact(failed, "host")) == ("HandOver", "kvm2")
    assert failed.status.description == "no <room>"
    (event,) = failed.events
    assert event.attributes == {
        "exception.type": "hostler.errors.MigrationError",
        "exception.message": "no <room>",
    }
    begun = [one.name for one in SHAPE[: [one.name for one in SHAPE].index("HandOver") + 1]]
    assert names(told.steps("revert")) == begun[::-1]
    assert all(span.status.is_unset for span in told.steps("revert"))
    (flow,) = told.flows
    assert (fact(flow, "outcome"), flow.status.description) == ("reverted", "reverted")


def test_a_step_that_was_interrupted_is_told_and_then_the_next_attempt(world: World, told: Told) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    copy = failing(step("cold_migration", "CopyImages"), Stopping("the worker ends"), when="before")
    with copy, pytest.raises(Stopping):
        world.run()
    world.run()
    assert world.migration(number).outcome == "success"
    first, second = [span for span in told.steps("execute") if fact(span, "step") == "CopyImages"]
    assert (fact(first, "end"), fact(second, "end")) == ("interrupted", None)
    assert int(str(fact(second, "epoch"))) == int(str(fact(first, "epoch"))) + 1
    broken = next(turn for turn in told.turns if number_of(turn) == parent_of(first))
    assert fact(broken, "end") == "Stopping: the worker ends"


def test_a_confirmation_is_another_flow_of_the_same_trace(world: World, told: Told) -> None:
    server = world.add_server()
    world.migrate(server)
    world.client.confirm(server, requested_by="tester")
    world.run()
    assert [flow.name for flow in told.flows] == ["cold_migration", "confirm_resize"]
    assert len({flow.context.trace_id for flow in told.flows if flow.context}) == 1
    assert len({number_of(span) for span in told.of()}) == len(told.of())


def test_what_a_dead_host_undoes_late_is_told_when_it_is_back(world: World, told: Told) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    death = failing(
        step("cold_migration", "VerifyImages"),
        SessionLost("power cut"),
        when="after",
        also=lambda: world.cut_power("kvm2"),
    )
    with death, pytest.raises(SessionLost):
        world.run()
    world.run()
    before = {number_of(span) for span in told.of("kvm2")}
    world.power_on("kvm2")
    late = [span for span in told.of("kvm2") if number_of(span) not in before]
    assert {"VerifyImages", "OpenReceiver"} <= set(names(late))
    (flow,) = told.flows
    for span in late:
        assert (fact(span, "late"), fact(span, "direction")) == (True, "revert")
        assert parent_of(span) == number_of(flow)
        assert span.context is not None
        assert span.context.trace_id == uuid.UUID(number).int


@pytest.mark.parametrize("name", ["", "no-uuid", "\udcff", str(uuid.UUID(int=0))])
def test_a_damaged_job_is_traced_as_something(name: str) -> None:
    exporter = InMemorySpanExporter()
    facts = TurnFacts(name, "flow", name, name, "kvm1", epoch=1, attempt=1)
    with SpanTracer("kvm1", SimpleSpanProcessor(exporter)).turn(facts) as turn:
        turn.ended("stale")
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert span.context.is_valid


class Broken(SpanProcessor):
    """Fails at everything."""

    def on_start(self, *_: object, **__: object) -> None:
        raise OSError("no memory")

    def on_end(self, *_: object) -> None:
        raise OSError("no memory")


def test_a_tracer_that_fails_fails_no_flow(world: World) -> None:
    world.tracers = {host: SpanTracer(host, Broken()) for host in world.hosts}
    world.add_server()
    with failing(step("cold_migration", "HandOver"), MigrationError("no"), when="before"):
        assert world.migrate("web1").outcome == "reverted"
    assert world.migrate("web1").outcome == "success"
