"""The yardstick: a flow of the same shape through TaskFlow's own SQL persistence, with empty steps and no board."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from typing import Any

from taskflow import engines, states, task
from taskflow.patterns import linear_flow
from taskflow.persistence import backends, models

from hostler.flows.shape import Step
from hostler.records.models import new_uuid


class Empty(task.Task):  # type: ignore[misc]
    """Does nothing."""

    def execute(self) -> None:
        """Do nothing."""


def cpu_ms(url: str, shape: Sequence[Step], count: int) -> float:
    """Return the processor time of a flow of *shape*, with a new engine for each turn of a host."""
    backend = backends.fetch({"connection": url})
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
    began = time.process_time()
    for _ in range(count):
        _run(backend, shape)
    spent = time.process_time() - began
    backend.close()
    return spent / count * 1000


def _run(backend: Any, shape: Sequence[Step]) -> None:
    book, detail = models.LogBook("benchmark"), models.FlowDetail("flow", new_uuid())
    book.add(detail)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.save_logbook(book)
    ends = {one.name for one, other in itertools.pairwise(shape) if one.where != other.where}
    while True:
        flow = linear_flow.Flow("flow").add(*(Empty(name=step.name) for step in shape))
        engine = engines.load(flow, flow_detail=detail, book=book, backend=backend, engine="serial")

        def passed(_state: str, details: Any, engine: Any = engine) -> None:
            if details["task_name"] in ends:
                engine.suspend()

        engine.compile()
        engine.atom_notifier.register(states.SUCCESS, passed)
        engine.run()
        if engine.storage.get_flow_state() == states.SUCCESS:
            return
        with contextlib.closing(backend.get_connection()) as connection:
            book = connection.get_logbook(book.uuid)
            (detail,) = book
