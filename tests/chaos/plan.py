"""What happens in a round: decided by the seed and the round's number alone, before anything moves.

A plan speaks of servers by number and of hosts by role (the source or the destination of a server's move), so that it
can be carried out wherever the servers are by then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hostler import flows

#: How many servers the lab has.
SERVERS = 6
#: What strikes; each is a class of `tests.chaos.faults`, by its `name`.
KINDS = (
    "worker-killed",
    "worker-hung",
    "power-cut",
    "reboot",
    "link-cut",
    "zookeeper-killed",
    "leader-killed",
    "database-stopped",
    "database-killed",
    "receiver-killed",
    "disk-full",
    "clock-jump",
    "virsh-start",
    "virsh-undefine",
    "cancel",
    "recover",
)
#: Seconds until a fault is healed: at once, within a session's life, beyond it, beyond *dead_host_timeout*.
HOLDS_S = (0.2, 2.0, 7.0, 20.0)
HOLD_WEIGHTS = (30, 35, 20, 15)
CLOCK_JUMPS_S = (-7200, -600, -30, 30, 600, 7200)
#: How long after the beginning of its step a fault strikes at most, in seconds.
LATEST_S = 0.4


@dataclass(frozen=True)
class Moment:
    """When: in a step of a server's move."""

    server: int
    step: str
    #: RUNNING or, on the way back, REVERTING.
    state: str
    delay_s: float

    def __str__(self) -> str:
        return f"server {self.server} {self.step}{'' if self.state == 'RUNNING' else ' (undo)'}+{self.delay_s:.2f}s"


@dataclass(frozen=True)
class Strike:
    """One fault: what, against which end of the move, when, for how long."""

    kind: str
    #: source or dest
    role: str
    moment: Moment
    hold_s: float
    #: Of a clock: by how many seconds it jumps.
    jump_s: int = 0

    def __str__(self) -> str:
        jump = f" by {self.jump_s:+d}s" if self.kind == "clock-jump" else ""
        return f"{self.kind} {self.role}{jump} at {self.moment} for {self.hold_s:g}s"


@dataclass(frozen=True)
class Plan:
    """One round."""

    seed: int
    round: int
    #: The servers that move, each to the host where it is not.
    moves: tuple[int, ...]
    strikes: tuple[Strike, ...]


def make(seed: int, number: int) -> Plan:
    """The plan of a round."""
    rng = random.Random(f"hostler {seed} {number}")
    moves = tuple(rng.sample(range(SERVERS), rng.choice((3, 4, 5, 6))))
    first = _moment(rng, moves)
    strikes = [_strike(rng, first)]
    if rng.random() < 0.45:
        strikes.append(_strike(rng, first if rng.random() < 0.4 else _moment(rng, moves)))
    return Plan(seed, number, moves, tuple(strikes))


def _moment(rng: random.Random, moves: tuple[int, ...]) -> Moment:
    step = rng.choice([*_steps("cold_migration"), *_steps("confirm_resize")])
    back = step in _steps("cold_migration") and rng.random() < 0.15
    return Moment(
        rng.choice(moves), step, "REVERTING" if back else "RUNNING", round(rng.uniform(0, LATEST_S), 2)
    )


def _strike(rng: random.Random, moment: Moment) -> Strike:
    return Strike(
        kind=rng.choice(KINDS),
        role=rng.choice(("source", "dest")),
        moment=moment,
        hold_s=rng.choices(HOLDS_S, HOLD_WEIGHTS)[0],
        jump_s=rng.choice(CLOCK_JUMPS_S),
    )


def _steps(flow: str) -> list[str]:
    return [step.name for step in flows.shape_of(flow)]
