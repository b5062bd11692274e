"""Run the chaos: ``HOSTLER_CHAOS_SEED=1 HOSTLER_CHAOS_ROUNDS=100 python -m tests.chaos``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from lab import Lab
from lab.places import BASE, CHECKOUT
from lab.switch import identity_of
from tests.chaos import plan, verdict, yard
from tests.chaos.journal import Journal
from tests.chaos.office import Office
from tests.chaos.rounds import Figures, Round, World
from tests.chaos.telegraph import Telegraph
from tests.chaos.witness import Witness
from tests.support.operator import wait_known, wait_ready

DIRECTORY = BASE / f"chaos-{identity_of(CHECKOUT)}"


def main() -> int:
    """SIGTERM ends it after the round that is under way, as if that had been the last."""
    seed = int(os.environ.get("HOSTLER_CHAOS_SEED", "1"))
    first = int(os.environ.get("HOSTLER_CHAOS_ROUND", "1"))
    rounds = int(os.environ.get("HOSTLER_CHAOS_ROUNDS", "100"))
    began = time.monotonic()
    enough = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: enough.set())
    with world() as made:
        try:
            play(made, seed, takewhile(lambda _: not enough.is_set(), range(first, first + rounds)))
        finally:
            print(closing(made, time.monotonic() - began), flush=True)
    return 0


@contextmanager
def world(directory: Path = DIRECTORY) -> Iterator[World]:
    """A lab with servers that run, watched; nothing is left of it afterwards."""
    lab = yard.lab_in(directory)
    lab.down()
    with lab:
        lab.up(workers=True)
        wait_ready(*lab.hosts)
        kernels = [yard.give_kernel(host) for host in lab.hosts]
        kvm1, guests = lab.host("kvm1"), yard.guests(kernels[0])
        for guest in guests:
            guest.create(kvm1).start(kvm1, wait=False)
        for guest in guests:
            guest.wait_for_boot(kvm1)
        wait_known(kvm1, *guests)
        for host in lab.hosts:
            host.slow_link(yard.RATE)
        with (
            yard.Keeper(lab.hosts) as keeper,
            Telegraph(lab.database) as telegraph,
            Witness({guest.uuid for guest in guests}) as witness,
        ):
            journals = [Journal(guest) for guest in guests]
            yield World(lab, keeper, Office(lab), telegraph, witness, journals)


def play(made: World, seed: int, numbers: Iterable[int]) -> None:
    """Carry out the rounds; the first that goes wrong ends it, and says how it is had again."""
    for number in numbers:
        round_ = Round(made, plan.make(seed, number))
        try:
            print(round_.run(), flush=True)
        except Exception:
            print(f"WRONG: {round_.line()}", flush=True)
            print(f"its evidence: {keep_evidence(made.lab, f'{seed}-{number}')}", flush=True)
            print(f"again: HOSTLER_CHAOS_SEED={seed} HOSTLER_CHAOS_ROUND={number} HOSTLER_CHAOS_ROUNDS=1")
            raise
    read_disks(made)


def read_disks(made: World) -> None:
    """Shut every guest down, and find all that it ever acknowledged on its disk."""
    homes = made.homes()
    for journal in made.journals:
        lines = verdict.disk_holds_journal(journal.guest, made.lab.host(homes[journal.guest.uuid]))
        due = journal.acknowledged(made.lab.hosts)
        if lines < due:
            raise verdict.Wrong(
                f"{journal.guest.name}: its disk has {lines} lines of {due} acknowledged ones"
            )
        made.figures.whole += 1
        made.figures.lines += lines


def closing(made: World, seconds: float) -> str:
    """The figures."""
    figures: Figures = made.figures
    return "\n".join(
        [
            f"rounds: {figures.rounds}",
            f"migrations: {figures.migrations} ({_listed(figures.endings)})",
            f"faults: {figures.faults.total()} ({_listed(figures.faults)})",
            f"moments: {len(figures.moments)} ({_listed(figures.moments)})",
            f"parked migrations resolved by what they said: {figures.verbs.total()} ({_listed(figures.verbs)})",
            f"looks at the processes: {made.witness.looks}",
            f"servers running twice: {len(made.witness.violations)}",
            f"servers whole in the end: {figures.whole} of {len(made.journals)}, with {figures.lines} writes",
            f"seconds: {seconds:.0f}",
        ]
    )


def keep_evidence(lab: Lab, name: str) -> Path:
    """Copy what may tell why a round went wrong to where the lab's end does not reach it."""
    folder = DIRECTORY.with_name(f"{DIRECTORY.name}-wrong-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for host in lab.hosts:
        (folder / f"{host.name}.log").write_text(host.worker_log(20000))
        for log in host.path("/var/log/libvirt").glob("*.console"):
            (folder / f"{host.name}-{log.name}").write_text(log.read_text(errors="replace"))
    office = Office(lab)
    listed = office.type("migration", "list", "-f", "json").out or "[]"
    for row in json.loads(listed)[:8]:
        (folder / row["UUID"]).write_text(office.type("migration", "show", row["UUID"]).out)
    (folder / "doctor").write_text(office.type("doctor").out)
    return folder


def _listed(counted: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items(), key=lambda one: -one[1]))


if __name__ == "__main__":
    sys.exit(main())
