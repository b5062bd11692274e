"""Whatever dies, whenever: a few rounds of the chaos, always the same ones. tests/chaos says how to have more."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.places import BASE, CHECKOUT
from lab.switch import identity_of
from tests.chaos import __main__ as chaos

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SEED = 2
ROUNDS = range(1, 3)


def test_whatever_dies_every_server_is_there_once_with_all_that_it_wrote() -> None:
    directory: Path = BASE / f"chaos-test-{identity_of(CHECKOUT)}"

    with chaos.world(directory) as world:
        chaos.play(world, SEED, ROUNDS)

    assert world.figures.migrations >= len(ROUNDS)
    assert world.witness.violations == []
