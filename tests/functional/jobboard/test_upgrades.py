"""A worker of a newer version finishes what an older one has posted, or says that it cannot; it never guesses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from taskflow.patterns import linear_flow

from hostler import flows
from hostler.jobboard.leg import End
from tests.functional.jobboard.yard import FLOW, STEPS, Say, Yard, told

NAMES = [name for name, _ in STEPS]
LATER = ("review", "dest")


class SayMore(Say):
    """Say it in another way than before.

    Reverts by: saying so.
    """

    revision = 2


@contextmanager
def upgraded(steps: Sequence[tuple[str, str] | Say], name: str = FLOW) -> Iterator[None]:
    """Be another version of hostler, whose flow has these steps."""

    def forget() -> None:
        for made in (flows.make, flows.shape_of, flows.as_posted):
            made.cache_clear()

    before = flows.FLOWS.pop(FLOW)
    flows.FLOWS[name] = lambda: linear_flow.Flow(name).add(
        *(step if isinstance(step, Say) else Say(*step) for step in steps)
    )
    forget()
    try:
        yield
    finally:
        del flows.FLOWS[name]
        flows.FLOWS[FLOW] = before
        forget()


@pytest.mark.parametrize(
    "steps",
    [[*STEPS[:3], LATER, *STEPS[3:]], [STEPS[0], STEPS[2], STEPS[1], *STEPS[3:]]],
    ids=["a step more", "another order"],
)
@pytest.mark.parametrize("fails", [None, "verify"])
def test_a_flow_is_carried_out_as_it_was_posted(
    yard: Yard, steps: list[tuple[str, str]], fails: str | None
) -> None:
    with told(failing={fails} if fails else set()) as script:
        migration = yard.ask()
        assert yard.turn("kvm1", migration) is End.HANDED_OVER
        with upgraded(steps):
            yard.run()
    assert script.order("execute") == NAMES
    assert script.order("revert") == (NAMES[::-1] if fails else [])
    assert yard.migration(migration).outcome == ("reverted" if fails else "success")


def test_a_flow_that_is_posted_no_more_is_finished_with_its_steps(yard: Yard) -> None:
    with told() as script:
        migration = yard.ask()
        with upgraded([*STEPS, LATER], name="four_turns_and_a_review"):
            yard.run()
    assert script.order("execute") == NAMES
    assert yard.migration(migration).outcome == "success"


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([step for step in STEPS if step[0] != "send"], "no step 'send' (1.0)"),
        ([*STEPS[:4], ("send", "dest"), STEPS[5]], "no step 'send' (1.0)"),
        ([*STEPS[:4], SayMore("send", "source"), STEPS[5]], "no step 'send' (1.0)"),
    ],
    ids=["gone", "another host's", "another meaning"],
)
def test_what_this_version_cannot_do_is_parked_until_the_other_is_back(
    yard: Yard, steps: list[tuple[str, str] | Say], says: str
) -> None:
    with told() as script:
        migration = yard.ask()
        yard.turn("kvm1", migration)
        with upgraded(steps):
            assert yard.run() == [("kvm2", End.PARKED)]
            row = yard.migration(migration)
            assert says in str(row.error)
            assert "let the version that posted it finish the migration" in str(row.error)
            assert row.hint == f"hostler migration retry {migration}"
            assert script.said == [("execute", "look", "kvm1")]
        yard.client.retry(migration, requested_by="tester")
        yard.run()
    assert script.order("execute") == NAMES
    assert yard.migration(migration).outcome == "success"
