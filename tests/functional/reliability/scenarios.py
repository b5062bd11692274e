"""What is swept: each an operator's wish, written so that whoever finds it half done can carry it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

from sqlalchemy import select
from sqlalchemy.orm import Session

from hostler import flows
from hostler.drivers.files.kept import KeptCopies
from hostler.errors import ImageTransferError, MigrationError, MigrationPreCheckError
from hostler.jobboard import client
from hostler.jobboard.leg import MigrationLeg
from hostler.jobboard.posting import write_flow
from hostler.records import moves
from hostler.records.models import Migration
from hostler.records.quotas import Usage
from tests.functional.reliability.stage import Stage
from tests.support.world import step


@dataclass(frozen=True)
class Scenario:
    """*play* looks at what the records say, as an operator would, and asks for what is missing."""

    name: str
    play: Callable[[Stage], None]
    layout: str = "dir"
    sized: bool = False  #: the server has disks of which a flavor says something
    shared: bool = False  #: kvm1 and kvm2 have their servers' files on the same storage
    before: Callable[[Stage], None] | None = None  #: what was done before it begins
    circumstances: Callable[[Stage], AbstractContextManager[object]] = lambda _stage: nullcontext()
    outcome: str = ""  #: of its flow, where that does not go without saying


def move(stage: Stage) -> None:
    """Ask for a migration, unless one was asked for; see it through."""
    row = stage.latest()
    if row is None or row.outcome == "refused":
        stage.client.migrate("web1", "kvm2", requested_by="tester")
    stage.run()


def move_at_last(stage: Stage) -> None:
    """Ask for a migration, and once more when it was undone; see it through."""
    stage.run()  # who died when all was over has left its job: while that is there, no other may be asked for
    for _ in range(2):
        row = stage.latest()
        if row is None or row.outcome in ("refused", "reverted"):
            stage.client.migrate("web1", "kvm2", requested_by="tester")
        stage.run()


def move_anywhere(stage: Stage) -> None:
    """Ask for a migration to whichever host is best, unless one was asked for; see it through."""
    row = stage.latest()
    if row is None or (row.outcome == "refused" and row.excluded == {} and "never posted" in str(row.error)):
        stage.client.migrate("web1", requested_by="tester")
    stage.run()


def resize(stage: Stage) -> None:
    """Ask for another size on another host, unless that was asked for; see it through."""
    _resize(stage, "kvm2")


def resize_here(stage: Stage) -> None:
    """The same on the host that the server is on."""
    _resize(stage, "kvm1")


def _resize(stage: Stage, dest: str) -> None:
    row = stage.latest()
    if row is None or row.outcome == "refused":
        stage.client.resize("web1", "large", dest, requested_by="tester")
    stage.run()


def confirm(stage: Stage) -> None:
    """Give up the way back."""
    row = stage.latest()
    assert row is not None
    if row.phase == "closed" and row.status == "finished":
        stage.client.confirm("web1", requested_by="tester")
    stage.run()


def bring_back(stage: Stage) -> None:
    """Bring the server back, unless that was asked for and has failed."""
    row = stage.latest()
    assert row is not None
    if row.phase == "closed" and row.status == "finished" and row.flow_name != "revert_resize":
        stage.client.revert_resize("web1", requested_by="tester", reason="it is slow", drop_writes=True)
    stage.run()


def confirm_after_all(stage: Stage) -> None:
    """Ask for the server back, which fails; then confirm."""
    row = stage.latest()
    assert row is not None
    if (row.phase, row.status, row.flow_name) == ("closed", "finished", "cold_migration"):
        stage.client.revert_resize("web1", requested_by="tester", reason="it is slow", drop_writes=True)
    stage.run()
    confirm(stage)


def cancel_queued(stage: Stage) -> None:
    """Ask for a migration, and cancel it before any worker has seen it."""
    row = stage.latest()
    if row is None or row.outcome == "refused":
        stage.client.migrate("web1", "kvm2", requested_by="tester")
        row = stage.latest()
    assert row is not None
    if row.phase != "closed" and row.cancel_reason is None:
        stage.client.cancel("web1", requested_by="tester", reason="changed my mind")
    stage.run()


def retry_parked(stage: Stage) -> None:
    """Move; what is parked is tried again."""
    move(stage)
    row = stage.latest()
    assert row is not None
    if row.phase == "parked":
        stage.client.retry(row.uuid, requested_by="tester")
        stage.run()


@contextmanager
def growing(_stage: Stage) -> Iterator[None]:
    """What is asked for changes what the project uses, as a resize does: more of this, less of that."""
    delta = Usage(cores=1, ram=-16).to_dict()

    def written(session: Session, migration: Migration, store: dict[str, Any]) -> None:
        write_flow(session, migration, store | {"quota_delta": delta})

    with mock.patch.object(client, "write_flow", written):
        yield


@contextmanager
def refused_at_the_end(stage: Stage) -> Iterator[None]:
    """The hand-over is refused, whoever asks for it and how often."""
    with always_failing("HandOver", "execute"), growing(stage):
        yield


@contextmanager
def never_handed_back(_stage: Stage) -> Iterator[None]:
    """The hand-back is refused, whoever asks for it and how often."""
    with always_failing("HandBack", "execute"):
        yield


@contextmanager
def undo_fails_once(stage: Stage) -> Iterator[None]:
    """The hand-over is refused; then the source's files cannot be put back until an operator asks again."""
    task = step("cold_migration", "RenameInstanceDir")
    real = task.revert

    def fails(**arguments: Any) -> Any:
        row = stage.latest()
        assert row is not None
        with stage.database.reading() as session:
            asked = [event.kind for event in moves.events(session, row.uuid)]
        if "retry" not in asked:
            raise MigrationError("the undo broke")
        return real(**arguments)

    with always_failing("HandOver", "execute"), mock.patch.object(task, "revert", fails):
        yield


@contextmanager
def first_attempt_is_kept(stage: Stage) -> Iterator[None]:
    """The hand-over is refused until an attempt was undone, which leaves what has arrived for the next."""
    task = step("cold_migration", "HandOver")
    real = task.execute

    def fails(**arguments: Any) -> Any:
        with stage.points.uncounted(), stage.database.reading() as session:
            undone = session.scalars(select(Migration.uuid).where(Migration.outcome == "reverted")).all()
        if not undone:
            raise MigrationError("on purpose")
        return real(**arguments)

    with mock.patch.object(task, "execute", fails), mock.patch.object(KeptCopies, "enabled", new=True):
        yield


@contextmanager
def cancelled_in_the_middle(stage: Stage) -> Iterator[None]:
    """An operator's wish arrives while the images are on their way."""
    task = step("cold_migration", "CopyImages")
    copy, look = task.execute, MigrationLeg.checkpoint
    left: list[int] = []

    def execute(**arguments: Any) -> Any:
        left[:] = [4]
        try:
            return copy(**arguments)
        finally:
            left.clear()

    def checkpoint(leg: MigrationLeg) -> None:
        if left:
            left[0] -= 1
            row = stage.latest()
            if left[0] == 0 and row is not None and row.cancel_reason is None:
                with stage.points.uncounted():
                    stage.client.cancel("web1", requested_by="tester", reason="changed my mind")
                stage.tether.cancel()
        look(leg)

    with (
        mock.patch.object(task, "execute", execute),
        mock.patch.object(MigrationLeg, "checkpoint", checkpoint),
    ):
        yield


@contextmanager
def first_refuses(_stage: Stage) -> Iterator[None]:
    """The best host refuses, whoever asks and how often; the next one takes the server."""
    refusal = MigrationPreCheckError(["it has no bridge br0"], host="kvm2")
    with failing_towards("kvm2", "ClaimResources", refusal):
        yield


@contextmanager
def first_copy_fails(_stage: Stage) -> Iterator[None]:
    """The copy to the best host fails, whoever tries it and how often; the next one takes the server."""
    full = ImageTransferError(path="/images/web1.qcow2", reason="No space left on device")
    with failing_towards("kvm2", "CopyImages", full):
        yield


@contextmanager
def failing_towards(dest: str, name: str, error: Exception) -> Iterator[None]:
    """Let a step of each migration to *dest* fail before it does anything."""
    task = step("cold_migration", name)
    real = task.execute

    def fails(**arguments: Any) -> Any:
        if arguments["leg"].migration.dest == dest:
            raise error
        return real(**arguments)

    with mock.patch.object(task, "execute", fails):
        yield


@contextmanager
def always_failing(name: str, method: str) -> Iterator[None]:
    """Let a step fail before it does anything."""

    def fails(**_: Any) -> Any:
        raise MigrationError("on purpose")

    with ExitStack() as stack:
        for flow in flows.FLOWS:
            for task in (one for one in flows.make(flow) if one.name == name):
                stack.enter_context(mock.patch.object(task, method, fails))
        yield


SCENARIOS = [
    scenario
    for layout in ("dir", "flat")
    for scenario in (
        Scenario("cold_migration", move, layout, circumstances=growing),
        Scenario("confirm_resize", confirm, layout, before=move),
        Scenario("revert_resize", bring_back, layout, before=move, outcome="success"),
        Scenario("refused_at_the_end", move, layout, circumstances=refused_at_the_end),
        Scenario("cancelled_in_the_middle", move, layout, circumstances=cancelled_in_the_middle),
    )
] + [
    Scenario("resize", resize, sized=True),
    Scenario("resize_here", resize_here, sized=True),
    Scenario("resize_refused_here", resize_here, "flat", sized=True, circumstances=refused_at_the_end),
    Scenario("confirm_here", confirm, sized=True, before=resize_here),
    Scenario("revert_sized", bring_back, sized=True, before=resize, outcome="success"),
    Scenario("revert_here", bring_back, sized=True, before=resize_here, outcome="success"),
    Scenario("cancelled_while_queued", cancel_queued),
    Scenario("not_handed_back", bring_back, "flat", before=move, circumstances=never_handed_back),
    Scenario("confirmed_after_all", confirm_after_all, before=move, circumstances=never_handed_back),
    Scenario("parked_and_retried", retry_parked, circumstances=undo_fails_once),
    Scenario("first_refuses", move_anywhere, circumstances=first_refuses),
    Scenario("first_copy_fails", move_anywhere, circumstances=first_copy_fails),
    Scenario("shared", move, shared=True),
    Scenario("shared_and_back", bring_back, shared=True, before=move, outcome="success"),
    Scenario("shared_refused", move, "flat", shared=True, circumstances=refused_at_the_end),
    Scenario("shared_resized", resize, "flat", sized=True, shared=True),
    Scenario("shared_resized_back", bring_back, sized=True, shared=True, before=resize, outcome="success"),
    Scenario("confirm_resize", confirm, "block", before=move),
    Scenario("revert_resize", bring_back, "block", before=move, outcome="success"),
    Scenario("refused_at_the_end", move, "block", circumstances=refused_at_the_end),
    Scenario("kept", move_at_last, circumstances=first_attempt_is_kept, outcome="success"),
    Scenario("kept", move_at_last, "flat", circumstances=first_attempt_is_kept, outcome="success"),
]
