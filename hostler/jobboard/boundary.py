"""Where one host's turn ends: the next step is another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskflow.engines.base import Engine

from hostler.jobboard.baton import Execute, Revert, decide
from hostler.jobboard.details import StoredFlow
from hostler.jobboard.posting import host_of
from hostler.jobboard.tether import Tether
from hostler.records.models import Migration


class Boundary:
    """Stops the engine after a step if the next one is another host's, or if the worker ends.

    TaskFlow hands the details over as a keyword and swallows what a listener raises.
    """

    def __init__(self, engine: Engine, flow: StoredFlow, row: Migration, host: str, tether: Tether) -> None:
        self._engine = engine
        self._shape = flow.shape
        self._row = row
        self._host = host
        self._tether = tether

    def passed(self, state: str, details: Mapping[str, Any]) -> None:
        """Look whose turn it is after a step has reached *state*."""
        names = [step.name for step in self._shape]
        decision = decide(self._shape, self._engine.storage.get_atoms_states(names))
        if not isinstance(decision, (Execute, Revert)):
            return
        if self._tether.interrupted or host_of(decision.step, self._row) != self._host:
            self._engine.suspend()
