"""Whatever process dies, and wherever: carried on, it ends as it would have without that.

Each scenario is run once to count the places at which its processes could end, and then once for each of them:
the process ends there; its worker starts again and the work goes on. Where it was a host's worker, the same once more
with that host's power cut. The short form strikes each ``STRIDE``-th of these; ``HOSTLER_SWEEP=full`` all of them.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.functional.reliability.points import OPERATOR, Died, Points
from tests.functional.reliability.scenarios import SCENARIOS, Scenario
from tests.functional.reliability.stage import Beginning, Stage
from tests.support.stand_ins import stand_ins
from tests.support.world import share

FULL = os.environ.get("HOSTLER_SWEEP") == "full"
#: A prime, so that each kind of place has its turn.
STRIDE = 1 if FULL else 197
#: Failures shown of one scenario.
SHOWN = 5


@dataclass(frozen=True)
class Strike:
    """One death: at which point of the run, of whom, and whether the host's power goes, too."""

    number: int
    who: str
    where: str
    power_cut: bool

    def __str__(self) -> str:
        cut = " and its host's power was cut" if self.power_cut else ""
        return f"{self.who} died at point {self.number}, {self.where}{cut}"


@dataclass(frozen=True)
class End:
    """How a world ended: all there is, and how often the guest began to execute on each host."""

    facts: dict[str, str]
    boots: dict[str, int]


class Sweeper:
    """One stage for all scenarios, and how each of them begins."""

    def __init__(self, base: Path, zookeeper_hosts: str) -> None:
        self.points = Points()
        self.stage = Stage(base, zookeeper_hosts, self.points)
        self._empty = self.stage.save("empty")
        self.passed = 0  #: points in the scenario last counted
        self._beginnings: dict[str, Beginning] = {}

    def begin(self, scenario: Scenario) -> None:
        """Bring the world to where *scenario* begins."""
        name = f"{scenario.layout}{'-sized' if scenario.sized else ''}{'-shared' if scenario.shared else ''}"
        if name not in self._beginnings:
            self.stage.load(self._empty)
            if scenario.shared:
                share(self.stage.directory, "kvm1", "kvm2")
            blocks = scenario.layout == "block"  # the odd one has all that is odd
            self.stage.add_server(
                layout=scenario.layout, sized=scenario.sized, firmware=blocks, pinned=scenario.sized
            )
            self._beginnings[name] = self.stage.save(name)
        if scenario.before is None:
            self.stage.load(self._beginnings[name])
            return
        later = f"{name}-{scenario.before.__name__}"
        if later not in self._beginnings:
            self.stage.load(self._beginnings[name])
            scenario.before(self.stage)
            self._beginnings[later] = self.stage.save(later)
        self.stage.load(self._beginnings[later])

    def run(self, scenario: Scenario, strike: Strike | None = None) -> End:
        """Play *scenario*, struck once or not at all; return the world's end."""
        stage = self.stage
        self.begin(scenario)
        with scenario.circumstances(stage):
            try:
                with self.points.counted(strike.number if strike else None):
                    scenario.play(stage)
            except Died:
                assert strike is not None
                assert (strike.who, strike.where) == self.points.seen[-1], "another run passes other points"
                stage.recover(strike.who, power_cut=strike.power_cut)
            else:
                assert strike is None, "the run ended before it came there"
            stage.look_around()
            scenario.play(stage)
            stage.look_around()
        assert not stage.misdeeds, stage.misdeeds
        return End(stage.picture(), stage.boots())

    def strikes(self, scenario: Scenario) -> tuple[list[Strike], End]:
        """Return the deaths that *scenario* can meet, and how it ends without any.

        A dead process leaves the world behind and nothing else: of neighbouring points between which nothing in
        the world has changed one stands for all.
        """
        self.points.look = self.stage.fingerprint
        try:
            expected = self.run(scenario)
        finally:
            self.points.look = None
        self.passed = len(self.points.seen)
        found, before = [], None
        for number, (who, where) in enumerate(self.points.seen):
            world = (who, self.points.worlds[number])
            if world != before:
                found += [
                    Strike(number, who, where, cut)
                    for cut in ((False,) if who == OPERATOR else (False, True))
                ]
            before = world
        return found, expected


@pytest.fixture(scope="module")
def sweeper(zookeeper_hosts: str) -> Iterator[Sweeper]:
    memory = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(prefix="hostler-sweep-", dir=memory if memory.is_dir() else None))
    made = Sweeper(base, zookeeper_hosts)
    try:
        with made.points.everywhere(), stand_ins():
            yield made
    finally:
        made.stage.close()
        shutil.rmtree(base)


def wrong(sweeper: Sweeper, scenario: Scenario, strike: Strike, expected: End) -> str | None:
    """Say what is wrong with the world's end after *strike*."""
    try:
        found = sweeper.run(scenario, strike)
    except (Exception, Died):  # noqa: BLE001 - whatever it is, it is told; the sweep goes on
        return f"{strike}:\n{traceback.format_exc()}"
    said = [
        f"  {name}\n{_difference(fact, found.facts[name])}"
        for name, fact in expected.facts.items()
        if found.facts[name] != fact
    ]
    more = range(2) if strike.power_cut else range(1)  # a host that comes back starts what ran on it
    if any(found.boots[host] - boots not in more for host, boots in expected.boots.items()):
        said.append(f"  the guest began to execute {found.boots} times, not {expected.boots}")
    return f"{strike}:\n" + "\n".join(said) if said else None


def _difference(expected: str, found: str) -> str:
    """Return the pieces in which two facts differ."""
    pieces = difflib.ndiff(expected.split(", "), found.split(", "))
    return "\n".join(f"    {piece}" for piece in pieces if piece[0] in "+-")


@pytest.mark.timeout(7200 if FULL else 300)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.name}-{scenario.layout}")
def test_a_death_anywhere_changes_nothing_in_the_end(
    sweeper: Sweeper, scenario: Scenario, tell: Callable[[str], None]
) -> None:
    began = time.monotonic()
    strikes, expected = sweeper.strikes(scenario)
    assert expected.facts["records: parked"] == "[]"
    assert scenario.outcome in expected.facts["records: migration"]
    struck = strikes[SCENARIOS.index(scenario) % STRIDE :: STRIDE]
    failures = [text for strike in struck if (text := wrong(sweeper, scenario, strike, expected))]
    worlds = len({strike.number for strike in strikes})
    tell(
        f"{scenario.name} ({scenario.layout}): {sweeper.passed} points, {worlds} different worlds, "
        f"{len(strikes)} deaths; {len(struck)} tried, {len(failures)} wrong; {time.monotonic() - began:.0f} s"
    )
    assert not failures, f"{len(failures)} of {len(struck)}:\n" + "\n".join(failures[:SHOWN])
