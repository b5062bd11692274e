"""A worker that was frozen past the end of its session: ended by its successor, woken alone, or woken too late.

Each flow is run once to learn its places (before a step, at its first effect, after it), and once for each of them: its
worker is stopped there with SIGSTOP. How the world ends and how often each thing happened must be as without it. The
short form takes one of the places of each, ``HOSTLER_SWEEP=full`` all.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess

import pytest

from lab.process import start_time
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

# -- what happens to the frozen worker --------------------------------------------------------------------


def followed(theatre: Theatre, play: Play, place: Place) -> int:
    """A successor on the same host ends it and carries on; return how many writes the fence refused."""
    usual = theatre.undisturbed(play)
    with theatre.scene(play) as scene:
        frozen = freeze(scene, play, place)
        scene.expire(place.host)
        scene.start(place.host, refused=play.refused)
        # as the kernel has it: the fork server, which is asked by is_alive(), may not have heard of its end yet
        assert start_time(frozen.pid or 0) is None, "two workers of a host are alive"
        scene.wait_over()
        return check(scene, usual.after, usual.done)


def woken(theatre: Theatre, play: Play, place: Place) -> int:
    """It is woken when its session has ended and nobody has done anything yet."""
    usual = theatre.undisturbed(play)
    with theatre.scene(play) as scene:
        frozen = freeze(scene, play, place)
        scene.expire(place.host)
        os.kill(frozen.pid or 0, signal.SIGCONT)
        scene.wait_left()
        scene.wait_over()
        return check(scene, usual.after, usual.done)


def woken_too_late(theatre: Theatre, play: Play, place: Place) -> int:
    """It is woken when the source has walked back without it: what it still does is refused, or undone by itself."""
    usual = theatre.undisturbed(BACK)
    with theatre.scene(play) as scene:
        frozen = freeze(scene, play, place, dead_host_timeout=1.0)
        scene.wait_over()
        row = scene.latest()
        assert row is not None
        assert (row.phase, row.outcome, row.status) == ("closed", "reverted", "error")
        os.kill(frozen.pid or 0, signal.SIGCONT)
        scene.wait_left()
        scene.wait(lambda: place.host in scene.board.alive(), "the worker that was woken")
        expected = {name: fact for name, fact in usual.before.items() if name != "records: migration"}
        return check(scene, expected, usual.done)


def freeze(scene: Scene, play: Play, place: Place, **settings: float) -> BaseProcess:
    """Start both workers, ask, and wait until one stands still."""
    workers = {
        host: scene.start(host, place.stop if host == place.host else None, refused=play.refused, **settings)
        for host in scene.hosts
    }
    play.ask(scene)
    scene.wait_frozen(workers[place.host])
    return workers[place.host]


@pytest.fixture(scope="module")
def theatre(zookeeper_hosts: str) -> Iterator[Theatre]:
    with Theatre.opened(zookeeper_hosts) as made:
        yield made


@pytest.fixture(scope="module")
def theatre_with_server(zookeeper_hosts: str, postgres_server: str) -> Iterator[Theatre]:
    """Scenes with records on PostgreSQL: a process that is frozen while it writes to a file keeps that locked."""
    with Theatre.opened(zookeeper_hosts, postgres_server) as made:
        yield made


@pytest.mark.timeout(7200 if FULL else 300)
def test_a_worker_frozen_anywhere_changes_nothing_in_the_end(
    theatre: Theatre, theatre_with_server: Theatre, tell: Callable[[str], None]
) -> None:
    acts = []
    for play in (FORWARD, BACK):
        late = before_hand_over(theatre_with_server.undisturbed(play).places)
        if play.refused:
            late = [place for place in late if place.stop.method == "revert"]
        acts.append(Act(theatre_with_server, woken_too_late, play, late))
    for play in (FORWARD, BACK, CONFIRM):
        there = [place for place in theatre.undisturbed(play).places if place.stop.when != "writing"]
        acts += [Act(theatre, what, play, there) for what in (followed, woken)]
    sweep([act.shortened(number) for number, act in enumerate(acts)], tell)
