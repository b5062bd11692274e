"""Scenes that begin alike, and what is known of how a play goes in them when nobody disturbs it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from hostler.flows import shape_of
from hostler.objects import DEST
from tests.functional.reliability.hands import PASSES, Stop
from tests.functional.reliability.scene import Beginning, Scene

FULL = os.environ.get("HOSTLER_SWEEP") == "full"
#: Worlds side by side: most of the time all of them wait for a session to end.
WORLDS = 8
SHOWN = 5


@dataclass(frozen=True)
class Play:
    """What the workers carry out."""

    name: str
    moved: bool = False  #: it begins with a server that waits to be confirmed, and confirms it
    refused: bool = False  #: the hand-over is refused: everything is undone

    def ask(self, scene: Scene) -> None:
        """Ask for it."""
        if self.moved:
            scene.client.confirm("web1", requested_by="tester")
        else:
            scene.client.migrate("web1", "kvm2", requested_by="tester")


FORWARD, BACK, CONFIRM = (
    Play("cold_migration"),
    Play("undone", refused=True),
    Play("confirm_resize", moved=True),
)


@dataclass(frozen=True)
class Place:
    """Where a worker is stopped."""

    host: str
    stop: Stop

    def __str__(self) -> str:
        return f"{self.host} in {self.stop}"


@dataclass(frozen=True)
class Undisturbed:
    """How a play goes when nobody is stopped."""

    before: dict[str, str]  #: the world as it was
    after: dict[str, str]
    done: Counter[str]
    places: list[Place]  #: in the order in which they are passed


class Theatre:
    """Makes scenes that begin alike."""

    @classmethod
    @contextmanager
    def opened(cls, zookeeper_hosts: str, postgres_server: str | None = None) -> Iterator[Theatre]:
        """Give one whose scenes lie in memory."""
        memory = Path("/dev/shm")
        base = Path(tempfile.mkdtemp(prefix="hostler-scenes-", dir=memory if memory.is_dir() else None))
        try:
            yield cls(base, zookeeper_hosts, postgres_server)
        finally:
            shutil.rmtree(base)

    def __init__(self, base: Path, zookeeper_hosts: str, postgres_server: str | None = None) -> None:
        """*postgres_server*: where the records are; None: in a file of each scene."""
        self.base = base
        self._server = postgres_server
        self._numbers = itertools.count()
        self.zookeeper_hosts = zookeeper_hosts
        self._making = threading.Lock()  #: Alembic's environment is one for all threads
        self._plays: dict[Play, Undisturbed] = {}
        with self._scene(None) as scene:
            server, kvm1 = scene.add_server(), scene.hosts["kvm1"]
            for volume in kvm1.hypervisor.describe(server).volumes:
                kvm1.volumes.connect(None, server, volume)
            scene.ledger.path.unlink()
            self._beginning: Beginning | None = scene.save(base / "beginning")

    @contextmanager
    def scene(self, play: Play) -> Iterator[Scene]:
        """Give a world in which *play* can be asked for."""
        with self._scene(self._beginning) as scene:
            scene.begin(moved=play.moved)
            yield scene

    def undisturbed(self, play: Play) -> Undisturbed:
        """Let *play* run once, and learn how it goes."""
        if play not in self._plays:
            with self.scene(play) as scene:
                before = scene.picture()
                for host in scene.hosts:
                    scene.start(host, refused=play.refused, noting=True)
                play.ask(scene)
                scene.wait_over()
                self._plays[play] = Undisturbed(before, settled(scene), scene.books().done, places(scene))
        return self._plays[play]

    @contextmanager
    def _scene(self, beginning: Beginning | None) -> Iterator[Scene]:
        directory = Path(tempfile.mkdtemp(dir=self.base))
        with self._making:
            scene = Scene(directory, self.zookeeper_hosts, self._database(directory), beginning)
        try:
            yield scene
        finally:
            scene.close()
            shutil.rmtree(directory)

    def _database(self, directory: Path) -> str:
        """Return the address of records for one more scene: the first one's are everybody's beginning."""
        if self._server is None:
            return f"sqlite:///{directory}/records.db"
        first, number = f"beginning_of_{self.base.name[-8:]}".lower(), next(self._numbers)
        name = f"{first}_{number}" if number else first
        engine = create_engine(self._server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}" + (f" TEMPLATE {first}" if number else "")))
        engine.dispose()
        return make_url(self._server).set(database=name).render_as_string(hide_password=False)


def settled(scene: Scene) -> dict[str, str]:
    """Return the world's end, once what comes after the flow (the job's node, the power state) is there, too."""
    scene.wait(lambda: not any(scene.board.jobs(host) for host in scene.hosts), "the end of the job")
    return scene.picture()


def places(scene: Scene) -> list[Place]:
    """Return each place that was passed, once."""
    found = {}
    for entry in scene.ledger.entries():
        if entry.what.startswith(PASSES):
            method, step, when = entry.what.removeprefix(PASSES).split("|")
            found[Place(entry.host, Stop(method, step, when))] = None
    return list(found)


# -- the sweep --------------------------------------------------------------------------------------------


def before_hand_over(places: list[Place]) -> list[Place]:
    """Return the places of the destination from which the source may walk back without it."""
    shape = shape_of("cold_migration")
    steps = [step.name for step in shape]
    mine = [name for name in steps[: steps.index("HandOver")] if shape[steps.index(name)].where == DEST]
    last = [place for place in places if place.stop.step == "HandOver" and place.stop.when == "before"]
    return [place for place in places if place.stop.step in mine] + last


@dataclass(frozen=True)
class Act:
    """What happens to a worker, and at which places of a play."""

    theatre: Theatre
    what: Callable[[Theatre, Play, Place], int]
    play: Play
    places: list[Place]

    def shortened(self, number: int) -> Act:
        """Return the act of that number with one of its places; another one for each number."""
        return self if FULL else replace(self, places=[self.places[17 * number % len(self.places)]])

    def at(self, place: Place) -> int | str:
        """Let it happen at *place*; return how many writes were refused, or what went wrong."""
        try:
            return self.what(self.theatre, self.play, place)
        except Exception:  # noqa: BLE001 - whatever it is, it is told; the sweep goes on
            wrong = f"{self.play.name}, {self.what.__name__}, {place}:\n{traceback.format_exc()}"
            print(wrong, flush=True)  # at once: a sweep may be ended before it has told all
            return wrong


def sweep(acts: list[Act], tell: Callable[[str], object]) -> None:
    """Carry the acts out, several places at a time; tell the figures of each."""
    began = time.monotonic()
    wrong: list[str] = []
    pool = ThreadPoolExecutor(WORLDS)
    try:
        running = [(act, [pool.submit(act.at, place) for place in act.places]) for act in acts]
        for act, futures in running:
            results = [future.result() for future in futures]
            failed = [result for result in results if isinstance(result, str)]
            refused = sum(result for result in results if isinstance(result, int))
            wrong += failed
            tell(
                f"{act.play.name}, {act.what.__name__.replace('_', ' ')}: {len(results)} places, "
                f"{len(failed)} wrong, side effects counted twice: {_count(failed, 'done twice')}, "
                f"late writes accepted: {_count(failed, 'behind ')}, refused: {refused}; "
                f"{time.monotonic() - began:.0f} s"
            )
    finally:
        pool.shutdown(cancel_futures=True)
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:SHOWN])


def _count(failed: list[str], words: str) -> int:
    return sum(words in text for text in failed)


def check(scene: Scene, expected: dict[str, str], done: Counter[str]) -> int:
    """See that the world has ended like this, and that nothing was done more often; return the refused writes."""
    scene.wait_for(expected)
    books = scene.books()
    assert not books.late, books.late
    assert not books.misdeeds, books.misdeeds
    assert not books.done - done, f"done twice: {books.done - done}"
    return books.refused
