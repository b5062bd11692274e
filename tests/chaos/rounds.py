"""A round: servers move, faults strike them, everything heals, and what hostler says to type is typed."""

from __future__ import annotations

import shlex
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lab import Host, Lab
from lab.process import LabError, wait_until
from tests.chaos import verdict
from tests.chaos.faults import FAULTS, Fault, Scene
from tests.chaos.journal import Journal
from tests.chaos.office import Office
from tests.chaos.plan import Plan, Strike
from tests.chaos.telegraph import Telegraph
from tests.chaos.verdict import Wrong
from tests.chaos.witness import Witness
from tests.chaos.yard import Keeper
from tests.support.operator import Said

#: The longest that a migration may take from the end of all faults to its own.
QUIET_S = 180.0
#: The longest that an operator goes on asking for a migration that nobody takes.
ASK_S = 60.0


@dataclass
class Figures:
    """What all rounds came to."""

    rounds: int = 0
    migrations: int = 0
    #: Servers whose disk, read when all was over, had every line that they ever acknowledged.
    whole: int = 0
    lines: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    verbs: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)


@dataclass
class World:
    """What a round needs; made once."""

    lab: Lab
    keeper: Keeper
    office: Office
    telegraph: Telegraph
    witness: Witness
    journals: list[Journal]
    figures: Figures = field(default_factory=Figures)

    def homes(self) -> dict[str, str]:
        """The host of each server, as the records have it."""
        return dict(self.telegraph.read("SELECT uuid, host FROM instances"))


class Round:
    """One plan, carried out."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.story: list[str] = []
        self._over = {number: threading.Event() for number in plan.moves}
        self._faults: list[Fault] = []

    def run(self) -> str:
        """Carry it out; return what happened in one line, or raise `Wrong`."""
        began, homes = time.monotonic(), self.world.homes()
        self.world.telegraph.forget()
        before = self._migrations()
        with ThreadPoolExecutor() as pool:
            strikes = [pool.submit(self._strike, strike, homes) for strike in self.plan.strikes]
            moves = [pool.submit(self._move, number, homes) for number in self.plan.moves]
            for future in (*moves, *strikes):
                future.result()
        self._settle()
        self._wait_quiet()
        self._follow_advice()
        self._confirm_all()
        self._settle()
        verdict.examine(
            self.world.lab.hosts,
            self.world.journals,
            self.world.office,
            self.world.witness,
            self.world.homes(),
        )
        self._count(before)
        self.world.figures.rounds += 1
        return f"{self.line()}; {time.monotonic() - began:.0f} s"

    def line(self) -> str:
        """What is known of the round so far."""
        return f"seed {self.plan.seed} round {self.plan.round}: " + "; ".join(self.story or ["nothing yet"])

    # -- moving -------------------------------------------------------------------------------------------

    def _move(self, number: int, homes: dict[str, str]) -> None:
        """Ask for one server's move, and for its confirmation if it comes to that."""
        guest = self.world.journals[number].guest
        dest = _other(homes[guest.uuid])
        try:
            migration = self._ask(guest.uuid, dest)
            if migration is not None and self._await(migration)["status"] == "finished":
                self.world.office.confirm(guest.uuid)
                self._await(migration)
        finally:
            self._over[number].set()

    def _ask(self, server: str, dest: str) -> str | None:
        """Ask until the records have the migration; None if nobody took it."""
        known = len(self._of_server(server))
        deadline = time.monotonic() + ASK_S
        while time.monotonic() < deadline:
            said = self.world.office.migrate(server, dest)
            found = self._of_server(server)
            if len(found) > known:
                return str(found[-1])
            time.sleep(1)
        self.story.append(f"{server[:8]} was not asked for: {said}")
        return None

    def _await(self, migration: str, timeout_s: float = QUIET_S) -> dict[str, Any]:
        """Wait until the migration is over or parked."""
        row: dict[str, Any] = {}

        def over() -> bool:
            row.update(self._row(migration))
            return row["phase"] in ("closed", "parked")

        try:
            wait_until(over, f"the end of migration {migration}", timeout_s, pause_s=0.25)
        except LabError as error:
            raise Wrong(f"migration {migration} does not end: {row}") from error
        return row

    # -- striking -----------------------------------------------------------------------------------------

    def _strike(self, strike: Strike, homes: dict[str, str]) -> None:
        """Wait for the moment, strike, hold, heal."""
        journal = self.world.journals[strike.moment.server]
        home = homes[journal.guest.uuid]
        lab, telegraph, moment = self.world.lab, self.world.telegraph, strike.moment
        source, dest = lab.host(home), lab.host(_other(home))
        scene = Scene(lab, self.world.keeper, self.world.office, journal, source, dest)
        over = self._over[moment.server].is_set
        if not telegraph.wait(journal.guest.uuid, moment.step, moment.state, over):
            self.story.append(f"{strike}: not reached")
            return
        time.sleep(moment.delay_s)
        fault = FAULTS[strike.kind](scene, strike)
        self._faults.append(fault)
        at = telegraph.now(journal.guest.uuid)
        try:
            struck = fault.strike()
            if struck is not None:
                time.sleep(strike.hold_s)
        finally:
            fault.heal()
        self.story.append(f"{strike}: {struck or 'moot'} in {at}")
        if struck is not None:
            self.world.figures.faults[strike.kind] += 1
            self.world.figures.moments[at] += 1

    # -- afterwards ---------------------------------------------------------------------------------------

    def _settle(self) -> None:
        for host in self.world.lab.hosts:
            self._wait_worker(host)
        for fault in self._faults:
            fault.settle()

    def _wait_worker(self, host: Host) -> None:
        """Wait until it is one that takes work: a process that has just begun is not."""
        wait_until(lambda: host.is_on and host.worker_pid is not None, f"{host.name}'s worker", QUIET_S, 0.2)
        wait_until(lambda: self.world.office.is_up(host), f"{host.name}'s worker to be up", QUIET_S, 0.5)

    def _wait_quiet(self) -> None:
        """Wait until every migration is over or parked, and no host owes an undo."""
        for migration, *_ in self.world.telegraph.read(
            "SELECT uuid FROM migrations WHERE phase IN ('posting', 'open')"
        ):
            self._await(migration)
        debts = "SELECT host, task, migration_uuid FROM debts"
        try:
            wait_until(lambda: not self.world.telegraph.read(debts), "debts", QUIET_S, pause_s=0.5)
        except LabError as error:
            raise Wrong(f"debts are not paid: {self.world.telegraph.read(debts)}") from error

    def _follow_advice(self) -> None:
        """Type, for each parked migration, what it says to type; that must do."""
        parked = self.world.telegraph.read("SELECT uuid FROM migrations WHERE phase = 'parked'")
        for (migration,) in parked:
            row = self._row(migration)
            advice = _resolving(row)
            said = self._type(advice)
            if said.code != 0:
                raise Wrong(f"parked: {row['error']}; its advice {advice!r} fails: {said.ending[1]}")
            self.story.append(f"parked ({row['error']}), resolved by {advice.split(migration)[0].strip()}")
            self.world.figures.verbs[" ".join(advice.split()[:3])] += 1
            if (after := self._await(migration))["phase"] == "parked":
                raise Wrong(f"parked again after {advice!r}: {after['error']}")
        if parked:
            self._wait_quiet()

    def _confirm_all(self) -> None:
        """Confirm what was handed over and is not confirmed yet."""
        statement = "SELECT uuid, instance_uuid FROM migrations WHERE status IN ('finished', 'confirming')"
        for migration, server in self.world.telegraph.read(statement):
            for _ in range(3):
                said = self.world.office.confirm(server)
                row = self._await(migration)
                if row["status"] == "confirmed":
                    self.story.append("confirmed afterwards")
                    break
                self.story.append(f"confirm: {row['error']}")
                self._type(_resolving(row)) if row["phase"] == "parked" else self._start(row)
            else:
                raise Wrong(f"{migration} cannot be confirmed: {said}; its last error: {row['error']}")

    def _start(self, row: dict[str, Any]) -> None:
        """Do what a refused confirmation says: the guest shall run again."""
        host = self.world.lab.host(row["dest_compute"])
        host.run(["virsh", "-q", "start", row["instance_uuid"]], check=False)

    def _type(self, advice: str) -> Said:
        """Type what hostler said to type next."""
        if not advice.startswith("hostler "):
            return Said(2, "", f"it is no command: {advice}")
        words = [word if word != "..." else "chaos" for word in shlex.split(advice)[1:]]
        return self.world.office.insist(*words)

    # -- the records --------------------------------------------------------------------------------------

    def _row(self, migration: str) -> dict[str, Any]:
        names = ("phase", "status", "outcome", "error", "hint", "dest_compute", "instance_uuid")
        statement = f"SELECT {', '.join(names)} FROM migrations WHERE uuid = %s"
        return dict(zip(names, self.world.telegraph.read(statement, [migration])[0], strict=True))

    def _of_server(self, server: str) -> list[str]:
        statement = "SELECT uuid FROM migrations WHERE instance_uuid = %s ORDER BY created_at"
        return [row[0] for row in self.world.telegraph.read(statement, [server])]

    def _migrations(self) -> dict[str, str]:
        return dict(self.world.telegraph.read("SELECT uuid, status FROM migrations"))

    def _count(self, before: dict[str, str]) -> None:
        new = {uuid: status for uuid, status in self._migrations().items() if uuid not in before}
        self.world.figures.migrations += len(new)
        self.world.figures.endings.update(new.values())
        self.story.append(", ".join(f"{count} {status}" for status, count in Counter(new.values()).items()))


def _other(name: str) -> str:
    return "kvm2" if name == "kvm1" else "kvm1"


def _resolving(row: dict[str, Any]) -> str:
    """Return the command that resolves it: what mends the cause comes before, and the chaos has ended that."""
    return str(row["hint"] or "").rsplit("; then: ")[-1]
