"""A seed says everything that happens, and everything happens under some seed."""

from __future__ import annotations

from hostler import flows
from tests.chaos.faults import FAULTS
from tests.chaos.plan import KINDS, make


def test_a_seed_says_what_happens() -> None:
    assert [make(7, number) for number in range(20)] == [make(7, number) for number in range(20)]
    assert make(7, 1) != make(8, 1)
    assert make(7, 1) != make(7, 2)


def test_every_fault_strikes_in_some_round() -> None:
    struck = {strike.kind for number in range(200) for strike in make(1, number).strikes}

    assert struck == set(KINDS) == set(FAULTS)


def test_every_step_is_struck_in_some_round() -> None:
    struck = {strike.moment.step for number in range(400) for strike in make(1, number).strikes}
    steps = {step.name for flow in ("cold_migration", "confirm_resize") for step in flows.shape_of(flow)}

    assert struck == steps


def test_every_undo_before_the_hand_over_is_struck_in_some_round() -> None:
    moments = {strike.moment for number in range(600) for strike in make(1, number).strikes}
    undone = {moment.step for moment in moments if moment.state == "REVERTING"}
    steps = [step.name for step in flows.shape_of("cold_migration")]

    assert undone == set(steps[: steps.index("HandOver") - 1])


def test_only_servers_that_move_are_struck() -> None:
    plans = [make(3, number) for number in range(200)]

    assert all(strike.moment.server in plan.moves for plan in plans for strike in plan.strikes)
