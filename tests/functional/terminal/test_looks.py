"""Every view in a real terminal, wide and narrow, with and without colour and UTF-8.

With ``HOSTLER_SHOTS=DIRECTORY`` pictures of the wide ones are kept there, for the manual (``tools/screenshots``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hostler.errors import MigrationError
from lab.process import wait_until
from tests.functional.doctor import planted
from tests.functional.terminal.conftest import Terminal
from tests.support.at_work import workers
from tests.support.world import POOL, World, failing, step

SHOTS = os.environ.get("HOSTLER_SHOTS")
DATA_MIB = 160
PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def keep(terminal: Terminal, name: str) -> None:
    if SHOTS:
        terminal.keep(Path(SHOTS) / f"terminal-{name}.svg")


@contextmanager
def slow_copies(world: World) -> Iterator[None]:
    """Let every block that kvm1 sends take its time."""
    faults = world.hosts["kvm1"].sender.faults
    faults.pause_s = 0.4
    try:
        yield
    finally:
        faults.pause_s = 0.0


def add_big_server(world: World, name: str) -> None:
    """Make one of which there is something to copy."""
    world.add_server(name, layout="flat")
    with world.hosts["kvm1"].at(f"{POOL}/{name}-data.raw").open("r+b") as file:
        file.write(os.urandom(1 << 20) * DATA_MIB)


def ended(world: World, number: str) -> None:
    wait_until(lambda: world.migration(number).phase != "open", "the migration has ended", timeout_s=60)


def ask(world: World, name: str) -> str:
    return world.client.migrate(name, "kvm2", requested_by="alice")


def walked_back(world: World, name: str) -> str:
    world.add_server(name)
    error = MigrationError("the record of the server has changed")
    with failing(step("cold_migration", "HandOver"), error, when="before"):
        ended(world, number := ask(world, name))
    return number


def parked(world: World, name: str) -> str:
    world.add_server(name)
    stuck = MigrationError("the disk does not answer")
    with ExitStack() as faults:
        faults.enter_context(failing(step("cold_migration", "HandOver"), MigrationError("no"), when="before"))
        faults.enter_context(
            failing(step("cold_migration", "PowerOff"), stuck, when="before", method="revert")
        )
        ended(world, number := ask(world, name))
    return number


@pytest.fixture
def at_work(world: World, tmp_path: Path) -> Iterator[World]:
    """The world, its workers at work."""
    with workers(world, tmp_path):
        yield world


def test_a_copy_is_watched(at_work: World, terminal: Terminal) -> None:
    for name in ("web1", "web2"):
        add_big_server(at_work, name)
    with slow_copies(at_work):
        number = ask(at_work, "web1")
        terminal.type("migration", "watch", "web1")
        terminal.wait_for(lambda screen: " left" in screen)
        keep(terminal, "watch")
        ask(at_work, "web2")
        terminal.type("migration", "watch", "--all")
        terminal.wait_for(lambda screen: "2 files" in screen and "web2" in screen)
        keep(terminal, "watch-all")
    terminal.wait_for("[ended: 0]")
    assert at_work.migration(number).outcome == "success"


def test_what_has_ended_is_told_in_a_wide_terminal(at_work: World, terminal: Terminal) -> None:
    at_work.add_server("web1")
    code, screen = terminal.run("server", "migrate", "web1", "--to", "kvm2", "--dry-run", lines=70)
    assert code == 0
    assert "nothing stands in the way of moving web1 to kvm2" in screen
    keep(terminal, "dry-run")
    code, screen = terminal.run("server", "migrate", "web1", "--to", "kvm2", "--wait", lines=44)
    assert code == 0
    keep(terminal, "done")
    walked_back(at_work, "web2")
    code, screen = terminal.run("migration", "watch", "web2", lines=44)
    assert code == 4
    assert "the record of the server has changed" in screen
    keep(terminal, "walked-back")
    number = parked(at_work, "web3")
    code, screen = terminal.run("migration", "watch", "web3", lines=44)
    assert code == 5
    assert f"hostler migration retry {number}" in screen
    keep(terminal, "parked")
    code, screen = terminal.run("migration", "show", "web3", lines=150)
    assert code == 0
    keep(terminal, "show")
    code, screen = terminal.run("migration", "list")
    assert code == 0
    keep(terminal, "list")
    for row in (f"{number[:8]} | web3", "reverted", "success"):
        assert row in screen
    planted.part(at_work)
    code, screen = terminal.run("doctor")
    assert code == 5
    assert f"Try      hostler migration retry {number}" in screen
    keep(terminal, "doctor")


def test_a_narrow_terminal_without_colour_and_utf_8_gets_all_that_matters(
    at_work: World, terminal: Terminal
) -> None:
    at_work.add_server("web1")

    def typed(*argv: str) -> tuple[int, str]:
        code, screen = terminal.run(*argv, columns=40, lines=400, **PLAIN)
        assert screen.isascii()
        assert "Traceback" not in screen
        return code, screen

    code, screen = typed("server", "migrate", "web1", "--to", "kvm2", "--dry-run")
    assert code == 0
    assert "nothing stands in the way" in screen
    number = parked(at_work, "web2")
    code, screen = typed("migration", "watch", "web2", "--format", "live")
    assert code == 5
    assert f"hostler migration retry {number}" in joined(screen)
    assert all(len(line) <= 40 for line in screen.splitlines())
    assert number[:8] in typed("migration", "list")[1]
    assert f"hostler migration retry {number}" in joined(typed("migration", "show", "web2")[1])
    for words in (("migration", "graph", "web2"), ("flow", "graph", "resize")):
        code, screen = typed(*words)
        assert code == 0
        assert all(len(line) <= 40 for line in screen.splitlines()[1:])
        assert re.search(r"\n\| \* \d\d HandOver", screen)
    code, screen = typed("doctor")
    assert code == 5
    assert "web2's migration\n" in screen
    assert f"hostler migration retry {number}" in joined(screen)


def joined(screen: str) -> str:
    """The words of a screen whose lines are full where they were broken."""
    return screen.replace("\n", "")
