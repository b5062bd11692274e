"""A worker that is cut off in the middle of a step: from ZooKeeper, from the database, or from both; then healed.

The step waits at one of its places until the cable is out and, where ZooKeeper is behind it, the session has ended and
the other host has done what it may; then it goes on, cut off. The short form takes one of the places of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
from sqlalchemy import make_url

from lab.process import LabError, wait_until
from tests.functional.reliability.scene import Scene
from tests.functional.reliability.theatre import (
    BACK,
    CONFIRM,
    FORWARD,
    FULL,
    Act,
    Place,
    Play,
    Theatre,
    before_hand_over,
    check,
    sweep,
)
from tests.support.cable import Cable

#: How long a step may try to go on while it is cut off, in seconds.
ALONE_S = 1.0


def from_zookeeper(theatre: Theatre, play: Play, place: Place) -> int:
    """Cut ZooKeeper off."""
    return cut_off(theatre, play, place, zookeeper=True, database=False)


def from_database(theatre: Theatre, play: Play, place: Place) -> int:
    """Cut the database off."""
    return cut_off(theatre, play, place, zookeeper=False, database=True)


def from_both(theatre: Theatre, play: Play, place: Place) -> int:
    """Cut both off."""
    return cut_off(theatre, play, place, zookeeper=True, database=True)


def cut_off(theatre: Theatre, play: Play, place: Place, *, zookeeper: bool, database: bool) -> int:
    """Cut off and heal the worker that is at *place*; return how many writes the fence refused."""
    taken_over = zookeeper and not play.moved and place in before_hand_over([place])
    usual = theatre.undisturbed(BACK if taken_over else play)
    with theatre.scene(play) as scene, ExitStack() as cables:
        address, port = scene.zookeeper_hosts.split(":")
        records = make_url(scene.database_url)
        boards = cables.enter_context(Cable(address, int(port)))
        rows = cables.enter_context(Cable(records.host or "", records.port or 0))
        through = {
            "zookeeper__hosts": [f"127.0.0.1:{boards.port}"],
            "database__connection": records.set(host="127.0.0.1", port=rows.port).render_as_string(False),
        }
        waiting = replace(place.stop, frozen=False)
        for host in scene.hosts:
            cut = through if host == place.host else {"dead_host_timeout": 1.0} if taken_over else {}
            scene.start(host, waiting if host == place.host else None, refused=play.refused, **cut)
        play.ask(scene)
        scene.wait((scene.directory / "stopped").exists, "the step")
        pulled = [cable for cable, out in ((boards, zookeeper), (rows, database)) if out]
        for cable in pulled:
            cable.pull()
        if zookeeper:
            scene.expire(place.host)
        if taken_over:
            scene.wait_over()
        (scene.directory / "go").touch()
        with suppress(LabError):  # it may wait for what it is cut off from
            wait_until((scene.directory / "left").exists, "the step", ALONE_S)
        for cable in pulled:
            cable.plug()
        return healed(scene, place, taken_over, usual.before if taken_over else usual.after, usual.done)


def healed(scene: Scene, place: Place, taken_over: bool, expected: dict[str, str], done: object) -> int:
    """See that all ends as it should once the cable is back."""
    scene.wait_left()
    scene.wait_over()
    scene.wait(lambda: place.host in scene.board.alive(), "the worker that was cut off")
    row = scene.latest()
    assert row is not None
    if taken_over:
        assert (row.phase, row.outcome) == ("closed", "reverted")
        expected = {name: fact for name, fact in expected.items() if name != "records: migration"}
    return check(scene, expected, done)


@pytest.fixture(scope="module")
def theatre(zookeeper_hosts: str, postgres_server: str) -> Iterator[Theatre]:
    with Theatre.opened(zookeeper_hosts, postgres_server) as made:
        yield made


@pytest.mark.timeout(7200 if FULL else 300)
def test_a_worker_cut_off_anywhere_changes_nothing_in_the_end(
    theatre: Theatre, tell: Callable[[str], None]
) -> None:
    acts = []
    for play in (FORWARD, BACK, CONFIRM):
        there = [place for place in theatre.undisturbed(play).places if place.stop.when != "writing"]
        acts += [Act(theatre, what, play, there) for what in (from_zookeeper, from_database, from_both)]
    sweep([act.shortened(number) for number, act in enumerate(acts)], tell)
