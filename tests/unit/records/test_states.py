"""The table of states: what it allows happens, whatever else is refused, and nobody writes past it."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

import hostler
from hostler import flows
from hostler.errors import InvalidStateTransition, UnexpectedTaskStateError
from hostler.jobboard.posting import ENDINGS
from hostler.records import instances, moves, states
from hostler.records.database import Database
from hostler.records.models import Instance, Migration
from hostler.records.states import ANY, MACHINES, NEW, STATUS, TASK_STATE, VM_STATE, Kind, Machine
from hostler.tasks.states import EnterState
from tests.records_made import make_host, make_instance, make_migration

#: Nova's words (reference: nova/compute/task_states.py, vm_states.py, and the conductor's migration.status).
NOVA = {
    "task_state": {
        None,
        "resize_prep",
        "resize_migrating",
        "resize_migrated",
        "resize_finish",
        "resize_reverting",
    },
    "vm_state": {"active", "stopped", "resized"},
    "status": {
        *("pre-migrating", "migrating", "post-migrating", "finished", "confirming", "confirmed"),
        *("reverting", "reverted", "error", "cancelled"),
    },
}


@pytest.fixture
def row(database: Database) -> dict[str, str]:
    """A server and its migration."""
    with database.transaction() as session:
        make_host(session)
        server = make_instance(session)
        return {"server": server, "migration": make_migration(session, server)}


def put(database: Database, row: dict[str, str], field: str, state: str | None) -> None:
    """Put a field into a state as nobody but a test does."""
    with database.transaction() as session:
        setattr(_of(session, row, field), field, state)


def found(database: Database, row: dict[str, str], field: str) -> str | None:
    with database.reading() as session:
        return str(state) if (state := getattr(_of(session, row, field), field)) is not None else None


def _of(session: Session, row: dict[str, str], field: str) -> Instance | Migration | None:
    return (
        session.get(Migration, row["migration"])
        if field == "status"
        else session.get(Instance, row["server"])
    )


def save(
    database: Database, row: dict[str, str], field: str, state: str | None, *, mending: bool = False
) -> None:
    with database.transaction() as session:
        if field == "status":
            assert moves.save(session, row["migration"], mending=mending, status=state)
        else:
            instances.save(session, row["server"], mending=mending, **{field: state})


@pytest.mark.parametrize("field", MACHINES)
def test_a_transition_is_made_if_the_table_has_it_and_refused_otherwise(
    database: Database, row: dict[str, str], field: str
) -> None:
    rows = {(one.before, one.after) for one in MACHINES[field].transitions if one.kind is not Kind.MEND}
    for before, after in itertools.product(MACHINES[field].states, repeat=2):
        put(database, row, field, before)
        allowed = before == after or (before, after) in rows
        if allowed:
            save(database, row, field, after)
        else:
            said = f"{field} of .* is {before}, from which it cannot become {after}"
            with pytest.raises(InvalidStateTransition, match=said):
                save(database, row, field, after)
        assert found(database, row, field) == (after if allowed else before), (before, after)


def test_what_only_a_mender_may_do_is_refused_to_everybody_else(
    database: Database, row: dict[str, str]
) -> None:
    put(database, row, "status", "finished")
    with pytest.raises(InvalidStateTransition):
        save(database, row, "status", "post-migrating")
    save(database, row, "status", "post-migrating", mending=True)
    assert found(database, row, "status") == "post-migrating"


@pytest.mark.parametrize("mending", [False, True])
def test_a_task_state_that_nobody_knows_is_left_to_the_doctor(
    database: Database, row: dict[str, str], mending: bool
) -> None:
    put(database, row, "task_state", "deleting")
    if mending:
        save(database, row, "task_state", None, mending=True)
    else:
        with pytest.raises(InvalidStateTransition, match="is deleting, from which it cannot become None"):
            save(database, row, "task_state", None)
    assert found(database, row, "task_state") == (None if mending else "deleting")


def test_what_was_expected_is_told_before_what_is_allowed(database: Database, row: dict[str, str]) -> None:
    put(database, row, "task_state", "resize_prep")
    with pytest.raises(UnexpectedTaskStateError), database.transaction() as session:
        instances.save(
            session, row["server"], expected_task_state=["resize_migrating"], task_state="resize_migrated"
        )


def test_a_transition_costs_no_statement_of_its_own(database: Database, row: dict[str, str]) -> None:
    put(database, row, "task_state", "resize_prep")
    seen: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *call: seen.append(call[2]))
    with database.transaction() as session:
        instances.save(
            session, row["server"], expected_task_state=["resize_prep"], task_state="resize_migrating"
        )
        moves.save(session, row["migration"], status="post-migrating")
    assert [statement.split()[0] for statement in seen] == ["BEGIN", "UPDATE", "UPDATE"]


def test_the_words_are_novas() -> None:
    assert {field: set(machine.states) for field, machine in MACHINES.items()} == NOVA


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_state_can_be_reached_and_only_ends_are_final(machine: Machine) -> None:
    reached: set[str | None] = {NEW, None} if machine is TASK_STATE else {NEW}
    while more := {one.after for one in machine.transitions if one.before in reached} - reached:
        reached |= more
    assert set(machine.states) <= reached
    final = set(machine.states) - {one.before for one in machine.transitions}
    assert final == ({"confirmed", "reverted", "error", "cancelled"} if machine is STATUS else set())


def test_each_row_that_nova_has_not_says_why() -> None:
    for machine in MACHINES.values():
        assert [one for one in machine.transitions if one.kind is not Kind.FORWARD and not one.note] == []


def test_no_row_stands_twice() -> None:
    for machine in MACHINES.values():
        rows = [(one.before, one.after, one.kind) for one in machine.transitions]
        assert len(rows) == len(set(rows))


def test_every_step_of_every_flow_keeps_to_the_table() -> None:
    steps = {step for name in flows.FLOWS for step in flows.make(name) if isinstance(step, EnterState)}
    assert steps
    for step in steps:
        for machine, (before, after) in ((TASK_STATE, step.task_state), (STATUS, step.status)):
            assert machine.allows(before, after), step.name
            assert machine.allows(after, before), f"undo of {step.name}"


def test_every_ending_of_a_flow_is_in_the_table() -> None:
    begins = {"cold_migration": "pre-migrating", "dry_run": "pre-migrating", "confirm_resize": "confirming"}
    for name, ending in ENDINGS.items():
        before = begins.get(name)
        assert ending.status is None or before is None or STATUS.allows(before, ending.status), name
        assert TASK_STATE.allows(ending.expected_task_state, None), name


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_the_picture_has_every_transition(machine: Machine) -> None:
    drawn = re.findall(r'"([^"]+)" -> "([^"]+)" \[style=(\w+)\]', states.to_dot(machine))
    styles = {Kind.FORWARD: "solid", Kind.UNDO: "dashed", Kind.MEND: "dotted"}
    assert set(drawn) == {(str(one.before), str(one.after), styles[one.kind]) for one in machine.transitions}


def test_any_is_nobodys_goal() -> None:
    assert not [
        one for machine in MACHINES.values() for one in machine.transitions if one.after in (ANY, NEW)
    ]
    assert not VM_STATE.allows("error", "active")


# -- nobody writes past it --------------------------------------------------------------------------------

PACKAGE = Path(hostler.__file__).parent
WRITERS = {PACKAGE / "records" / "instances.py", PACKAGE / "records" / "moves.py"}


def written_past(source: str) -> list[str]:
    """Return what *source* writes to a state without the table: assignments, and values of an UPDATE."""
    said = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            flat = [each for one in targets for each in (one.elts if isinstance(one, ast.Tuple) else [one])]
            said += [one.attr for one in flat if isinstance(one, ast.Attribute) and _is_theirs(one)]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
            named = {word.arg for word in node.keywords}
            of_them = any(
                name in ast.unparse(node.func) for name in ("update(Instance)", "update(Migration)")
            )
            said += sorted(named & set(MACHINES)) if None not in named else ["**"] * of_them  # type: ignore[type-var]
    return said


def _is_theirs(target: ast.Attribute) -> bool:
    """A field of that name, but of self: that is a step's own."""
    return target.attr in MACHINES and ast.unparse(target.value) != "self"


@pytest.mark.parametrize("path", sorted(set(PACKAGE.rglob("*.py")) - WRITERS), ids=lambda path: path.stem)
def test_nobody_writes_a_state_past_the_table(path: Path) -> None:
    assert written_past(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "migration.status = 'error'",
        "a.phase, a.status = 1, 2",
        "session.execute(update(Instance).where(x).values(task_state=None))",
        "session.execute(update(Instance).where(x).values(**changes))",
    ],
)
def test_it_would_be_seen(line: str) -> None:
    assert written_past(line)
