"""Whose turn it is: by examples, and against a model that walks over two hosts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hostler.flows.shape import DEST, SOURCE, Step
from hostler.jobboard.baton import Execute, Finished, Revert, Stuck, decide, is_reverting

SHAPE = [Step(name, where) for name, where in (("look", SOURCE), ("claim", DEST), ("send", SOURCE))]
LOOK, CLAIM, SEND = SHAPE


def states(look: str, claim: str, send: str, intention: str = "EXECUTE") -> dict[str, tuple[str, str]]:
    return {"look": (look, intention), "claim": (claim, intention), "send": (send, intention)}


def test_a_new_flow_begins_with_its_first_step() -> None:
    assert decide(SHAPE, states("PENDING", "PENDING", "PENDING")) == Execute(LOOK)


def test_after_a_step_comes_the_next() -> None:
    assert decide(SHAPE, states("SUCCESS", "PENDING", "PENDING")) == Execute(CLAIM)


def test_a_step_whose_worker_died_in_it_is_carried_out_again() -> None:
    assert decide(SHAPE, states("SUCCESS", "RUNNING", "PENDING")) == Execute(CLAIM)


def test_after_the_last_step_the_flow_is_finished() -> None:
    assert decide(SHAPE, states("SUCCESS", "SUCCESS", "SUCCESS")) == Finished(reverted=False)


def test_a_step_that_failed_is_undone_first() -> None:
    # A death between the failure and the intentions: no step says yet that it shall be undone.
    assert decide(SHAPE, states("SUCCESS", "FAILURE", "PENDING")) == Revert(CLAIM)


def test_what_succeeded_is_undone_last_first() -> None:
    assert decide(SHAPE, states("SUCCESS", "SUCCESS", "REVERTED", "REVERT")) == Revert(CLAIM)
    assert decide(SHAPE, states("SUCCESS", "REVERTED", "REVERTED", "REVERT")) == Revert(LOOK)


def test_an_undo_whose_worker_died_in_it_is_carried_out_again() -> None:
    assert decide(SHAPE, states("SUCCESS", "REVERTING", "REVERTED", "REVERT")) == Revert(CLAIM)


def test_a_step_that_never_began_is_not_undone() -> None:
    assert decide(SHAPE, states("SUCCESS", "REVERTED", "PENDING", "REVERT")) == Revert(LOOK)


def test_a_flow_undone_whole_is_finished() -> None:
    assert decide(SHAPE, states("REVERTED", "REVERTED", "PENDING", "REVERT")) == Finished(reverted=True)


def test_a_flow_cancelled_before_its_first_step_is_undone_already() -> None:
    assert decide(SHAPE, states("PENDING", "PENDING", "PENDING", "REVERT")) == Finished(reverted=True)


def test_a_cancelled_flow_undoes_what_succeeded() -> None:
    assert decide(SHAPE, states("SUCCESS", "SUCCESS", "PENDING", "REVERT")) == Revert(CLAIM)


def test_a_flow_cancelled_in_the_middle_of_a_step_undoes_that_step_first() -> None:
    assert decide(SHAPE, states("SUCCESS", "RUNNING", "PENDING", "REVERT")) == Revert(CLAIM)


def test_a_failed_undo_stops_everything_whatever_the_others_say() -> None:
    for first in ("SUCCESS", "REVERTED", "REVERTING", "PENDING"):
        assert decide(SHAPE, states(first, "REVERT_FAILURE", "REVERTED", "REVERT")) == Stuck(CLAIM)


@pytest.mark.parametrize(
    ("state", "back"),
    [("PENDING", False), ("RUNNING", False), ("SUCCESS", False), ("FAILURE", True), ("REVERTING", True)],
)
def test_a_flow_walks_back_from_the_first_failure_on(state: str, back: bool) -> None:
    assert is_reverting(states("SUCCESS", state, "PENDING"), SHAPE) is back


def test_steps_that_are_not_of_the_flow_do_not_count() -> None:
    with_arguments = states("SUCCESS", "PENDING", "PENDING") | {"_TaskFlow_INJECTOR": ("FAILURE", "REVERT")}
    assert decide(SHAPE, with_arguments) == Execute(CLAIM)


# -- the model --------------------------------------------------------------------------------------------


@dataclass
class Model:
    """A flow as a child would tell it: how many steps were done, how many undone, and which way it walks."""

    length: int
    done: int = 0  #: the steps before this one are done and not undone
    back: bool = False
    stuck: bool = False

    @property
    def turn(self) -> int | None:
        """Which step is next, in the present direction; None if none is."""
        at = self.done - 1 if self.back else self.done
        return at if 0 <= at < self.length else None


class Relay(RuleBasedStateMachine):
    """Workers of two hosts that do what :func:`decide` says, and a model that knows whose turn it is."""

    @initialize(places=st.lists(st.sampled_from([SOURCE, DEST]), min_size=1, max_size=8))
    def post(self, places: list[str]) -> None:
        self.shape = [Step(f"step {number}", where) for number, where in enumerate(places)]
        self.atoms = {step.name: ["PENDING", "EXECUTE"] for step in self.shape}
        self.model = Model(len(places))
        self.begun = False  #: a worker died in the step whose turn it is
        self.ran: list[tuple[str, str]] = []  #: (direction, step) as far as it came to its end

    def decision(self) -> object:
        return decide(
            self.shape, {name: (state, intention) for name, (state, intention) in self.atoms.items()}
        )

    def turn(self) -> Step | None:
        at = self.model.turn
        return None if at is None or self.model.stuck else self.shape[at]

    def can_run(self) -> bool:
        return self.turn() is not None

    def forward(self) -> bool:
        return self.can_run() and not self.model.back

    def backward(self) -> bool:
        return self.can_run() and self.model.back

    # -- what happens to a step ---------------------------------------------------------------------------

    @precondition(forward)
    @rule()
    def step_succeeds(self) -> None:
        step = self.turn()
        assert step is not None
        self.atoms[step.name][0] = "SUCCESS"
        self.ran.append(("execute", step.name))
        self.model.done += 1
        self.begun = False

    @precondition(forward)
    @rule(intentions_written=st.booleans())
    def step_fails(self, intentions_written: bool) -> None:
        step = self.turn()
        assert step is not None
        self.atoms[step.name][0] = "FAILURE"
        if intentions_written:
            self.all_shall_be_undone()
        else:
            self.atoms[step.name][1] = "REVERT"
        self.model.done += 1
        self.model.back = True
        self.begun = False

    @precondition(forward)
    @rule()
    def worker_dies_in_the_step(self) -> None:
        step = self.turn()
        assert step is not None
        self.atoms[step.name][0] = "RUNNING"
        self.begun = True

    @precondition(backward)
    @rule()
    def undo_succeeds(self) -> None:
        step = self.turn()
        assert step is not None
        self.atoms[step.name] = ["REVERTED", "REVERT"]
        self.all_shall_be_undone()
        self.ran.append(("revert", step.name))
        self.model.done -= 1
        self.begun = False

    @precondition(backward)
    @rule()
    def worker_dies_in_the_undo(self) -> None:
        step = self.turn()
        assert step is not None
        self.atoms[step.name] = ["REVERTING", "REVERT"]
        self.begun = True

    @precondition(backward)
    @rule()
    def undo_fails(self) -> None:
        step = self.turn()
        assert step is not None
        self.atoms[step.name] = ["REVERT_FAILURE", "REVERT"]
        self.model.stuck = True

    @precondition(forward)
    @rule()
    def operator_cancels(self) -> None:
        self.all_shall_be_undone()
        self.model.back = True
        if self.begun:
            self.model.done += 1

    @precondition(lambda self: not self.can_run())
    @rule()
    def the_job_is_delivered_again(self) -> None:
        decision = self.decision()
        assert isinstance(decision, Stuck if self.model.stuck else Finished), (
            "a flow that is over begins nothing"
        )

    def all_shall_be_undone(self) -> None:
        for atom in self.atoms.values():
            atom[1] = "REVERT"

    # -- what must hold -----------------------------------------------------------------------------------

    @invariant()
    def the_turn_is_the_models(self) -> None:
        if not hasattr(self, "model"):
            return
        decision = self.decision()
        step = self.turn()
        if self.model.stuck:
            assert isinstance(decision, Stuck)
        elif step is None:
            assert decision == Finished(reverted=self.model.back)
        else:
            assert decision == (Revert(step) if self.model.back else Execute(step))

    @invariant()
    def each_step_ran_once_each_way_in_order(self) -> None:
        if not hasattr(self, "model"):
            return
        executed = [name for kind, name in self.ran if kind == "execute"]
        reverted = [name for kind, name in self.ran if kind == "revert"]
        names = [step.name for step in self.shape]
        assert executed == names[: len(executed)]
        assert reverted == sorted(reverted, key=names.index, reverse=True)
        assert len(set(reverted)) == len(reverted)


Relay.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestRelay = Relay.TestCase
