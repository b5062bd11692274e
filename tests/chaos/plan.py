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
    "libvirtd-killed",
    "disk-full",
    "clock-jump",
    "virsh-start",
    "virsh-undefine",
    "cancel",
    "recover",
)
#: What is over as soon as it has struck.
SUDDEN = (
    "receiver-killed",
    "libvirtd-killed",
    "reboot",
    "virsh-start",
    "virsh-undefine",
    "cancel",
)
#: Seconds until a fault is healed: at once, within a session's life, beyond it, beyond *dead_host_timeout*.
HOLDS_S = (0.2, 2.0, 7.0, 20.0)
HOLD_WEIGHTS = (30, 35, 20, 15)
CLOCK_JUMPS_S = (-7200, -600, -30, 30, 600, 7200)
#: What has little to strike elsewhere, and in which step it has.
AIMED = {
    "receiver-killed": "CopyImages",
    "disk-full": "CopyImages",
    "virsh-start": "PowerOff",
    "virsh-undefine": "PowerOff",
    "recover": "StartGuest",
}
#: Share of the rounds in which a move is made to walk back.
WAYS_BACK = 0.2
#: Faults beside the first one, and how many of them strike at the same moment as the one before.
MORE_FAULTS, AT_ONCE = (0, 1, 1, 2), 0.4
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
    if rng.random() < WAYS_BACK:
        return Plan(seed, number, moves, _on_the_way_back(rng, rng.choice(moves)))
    strikes = [_strike(rng, moves)]
    for _ in range(rng.choice(MORE_FAULTS)):
        strikes.append(_strike(rng, moves, strikes[-1].moment if rng.random() < AT_ONCE else None))
    return Plan(seed, number, moves, tuple(strikes))


def _on_the_way_back(rng: random.Random, server: int) -> tuple[Strike, ...]:
    """A server's move is cancelled before the hand-over, and something strikes while a step of it is undone."""
    steps = _steps("cold_migration")
    last = steps.index("HandOver") - 1
    undone = rng.randrange(last)
    turn = rng.randrange(undone, last)
    cancel = Strike("cancel", "source", Moment(server, steps[turn], "RUNNING", 0.0), 0)
    moment = Moment(server, steps[undone], "REVERTING", _delay(rng))
    kinds = [kind for kind in KINDS if kind not in ("cancel", "recover")]
    return cancel, _struck_by(rng, rng.choice(kinds), moment)


def _strike(rng: random.Random, moves: tuple[int, ...], at: Moment | None = None) -> Strike:
    kind = rng.choice(KINDS)
    if at is None:
        step = rng.choice([*_steps("cold_migration"), *_steps("confirm_resize")])
        if kind in AIMED and rng.random() < 0.7:
            step = AIMED[kind]
        at = Moment(rng.choice(moves), step, "RUNNING", _delay(rng))
    return _struck_by(rng, kind, at)


def _struck_by(rng: random.Random, kind: str, moment: Moment) -> Strike:
    return Strike(
        kind=kind,
        role=_role(rng, kind, moment),
        moment=moment,
        hold_s=rng.choices(HOLDS_S, HOLD_WEIGHTS)[0] * (kind not in SUDDEN),
        jump_s=rng.choice(CLOCK_JUMPS_S),
    )


def _role(rng: random.Random, kind: str, moment: Moment) -> str:
    """Which end is struck: an operator's virsh mostly where the server's domain is by then."""
    if not kind.startswith("virsh") or rng.random() < 0.2:
        return rng.choice(("source", "dest"))
    steps = [*_steps("cold_migration"), *_steps("confirm_resize")]
    return "source" if steps.index(moment.step) < steps.index("RenameInstanceDir") else "dest"


def _delay(rng: random.Random) -> float:
    return round(rng.uniform(0, LATEST_S), 2)


def _steps(flow: str) -> list[str]:
    return [step.name for step in flows.shape_of(flow)]
