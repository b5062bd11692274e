"""Nodes and rows that nobody of ours wrote, or that are damaged: parked or left alone, never acted on, never deadly."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kazoo.exceptions import NodeExistsError
from sqlalchemy import text

from hostler.cli.app import HostlerApp
from hostler.jobboard.doctor import letters
from hostler.jobboard.jobs import Posting, is_name
from hostler.records.models import Migration
from lab.process import wait_until
from tests.functional.jobboard.yard import FLOW, HOSTS, Yard, told

DEEP = b"[" * 100_000
GARBAGE = {
    "nothing": b"",
    "no JSON": b'{"migration": ',
    "no UTF-8": b"\xff\xfe\x00",
    "null": b"null",
    "NaN": b'{"epoch": NaN, "migration": NaN, "board": Infinity}',
    "a key twice": b'{"migration": "a", "migration": "../b", "board": "x", "board": "/"}',
    "nested deep": DEEP,
    "huge": json.dumps({"migration": "m" * 900_000}).encode(),
    "wrong types": b'{"migration": [1], "board": {"a": 1}, "epoch": "1", "instance": null}',
    "paths": b'{"migration": "../../workers", "board": "..", "instance": "a/../b"}',
    "NUL": b'{"migration": "a\\u0000b", "board": "a\\u0000b"}',
}
QUICK = {"zookeeper__reconcile_interval": 1.0, "zookeeper__relist_interval": 1.0}


@pytest.fixture
def yard(tmp_path: Path, zookeeper_hosts: str) -> Iterator[Yard]:
    """Two hosts whose steps say what they do."""
    with told(), Yard(tmp_path, zookeeper_hosts, f"sqlite:///{tmp_path}/records.db") as made:
        yield made


def work_on(yard: Yard, caplog: pytest.LogCaptureFixture, max_attempts: int = 10) -> str:
    """Start both workers; see that they carry a good job through, and are well after it; return its migration."""
    caplog.set_level(logging.WARNING)
    threads = [yard.start_worker(host, max_attempts=max_attempts, **QUICK)[1] for host in HOSTS]
    good = yard.ask()
    assert yard.wait_for_end(good).outcome == "success"
    # A look at everything that is there, by each of them.
    wait_until(lambda: yard.ask_doctor().unseen == [], "the doctor", 20)
    assert all(thread.is_alive() for thread in threads)
    assert len(caplog.records) < 500, "it is tried again all the time"
    return good


def ran(yard: Yard, *words: str) -> int:
    """Type a command of hostler in this process; its exit code. What is unexpected is raised."""
    app = HostlerApp(lambda _conf: yard.new_client(), stdout=yard.screen, stderr=yard.screen)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        return app.run(["--config-file", "/dev/null", "--debug", *words])
    except SystemExit as error:
        return int(error.code or 0)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)


def look(yard: Yard, *migrations: str) -> None:
    """Look with every command that shows something."""
    commands = [
        ("migration", "list", "--all"),
        *(("migration", "show", migration) for migration in migrations),
        *(("migration", "graph", migration) for migration in migrations),
        *(
            ("migration", "watch", migration, "--format", "plain", "--timeout", "0.1")
            for migration in migrations
        ),
        ("host", "list"),
        ("host", "show", "kvm1"),
        ("doctor",),
    ]
    for words in commands:
        assert ran(yard, *words) in (0, 1, 4, 5), (words, yard.screen.getvalue()[-2000:])
    assert "Traceback" not in yard.screen.getvalue()


# -- nodes ------------------------------------------------------------------------------------------------


def test_nodes_of_garbage_are_left_alone(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    """One of each kind wherever a worker looks, all at once, and one in place of what says who holds a server."""
    moving = {}
    for number, data in enumerate(GARBAGE.values()):
        for names in (("boards", "kvm1"), ("instances",), ("parked",), ("wishes",), ("doctor", "kvm1")):
            yard.zookeeper.create(yard.board.path(*names, f"by-hand-{number}"), data, makepath=True)
        yard.zookeeper.create(yard.board.path("workers", f"kvm{number + 10}"), data)
        for folder in ("parked", "wishes", "instances"):
            yard.zookeeper.create(yard.board.path(folder, f"by-hand-{number}", "child"), data)
        moving[yard.ask()] = data
    for migration, data in moving.items():
        yard.zookeeper.set(yard.board.path("instances", yard.migration(migration).instance_uuid), data)
    work_on(yard, caplog)
    for migration in moving:
        row = yard.wait_for_end(migration)
        assert row.outcome == "success", row.error
    for number, data in enumerate(GARBAGE.values()):
        assert yard.zookeeper.get(yard.board.path("boards", "kvm1", f"by-hand-{number}"))[0] == data
    look(yard, next(iter(moving)))


def foreign(yard: Yard, bad: Migration, good: Migration) -> dict[str, Posting]:
    """Postings that are well-formed, and wrong."""
    mine = {"migration": bad.uuid, "instance": bad.instance_uuid, "flow": FLOW, "flow_uuid": bad.flow_uuid}
    return {
        "of no migration": Posting("unknown", "server", FLOW, "flow"),
        "of another flow": Posting(**mine | {"flow_uuid": "another"}),
        "of another server": Posting(**mine | {"instance": good.instance_uuid}),
    }


def test_a_job_that_fits_no_record_is_dropped_and_posted_as_it_should_be(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    asked = [yard.ask() for _ in range(4)]
    for bad, kind in zip(asked, ("of no migration", "of another flow", "of another server"), strict=False):
        posting = foreign(yard, yard.migration(bad), yard.migration(asked[3]))[kind]
        path = yard.board.path("boards", "kvm1", posting.migration)
        try:
            yard.zookeeper.create(path, posting.encode())
        except NodeExistsError:
            yard.zookeeper.set(path, posting.encode())
    work_on(yard, caplog)
    assert [yard.wait_for_end(one).outcome for one in asked] == ["success"] * 4
    wait_until(lambda: not any(yard.jobs().values()), "empty boards", 20)
    wait_until(lambda: yard.board.held_instances() == [], "free servers", 20)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)
)
def test_whatever_a_node_holds_can_be_read(data: bytes | str) -> None:
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    assert Posting.decode(data) is None
    assert isinstance(letters.unpack(data), dict)
    assert isinstance(letters.unpack(zlib.compress(data)), dict)


def test_a_small_message_that_unpacks_to_much_is_none() -> None:
    bomb = zlib.compress(json.dumps({"ask": "x" * (letters.LIMIT_UNPACKED_BYTES + 1)}).encode())
    assert len(bomb) < letters.LIMIT_BYTES
    assert letters.unpack(bomb) == {}
    assert letters.unpack(zlib.compress(DEEP)) == {}


def test_a_place_that_cannot_be_read_names_nothing(yard: Yard) -> None:
    for number, (kind, data) in enumerate(GARBAGE.items()):
        yard.zookeeper.create(yard.board.path("instances", f"server-{number}"), data)
        place = yard.board.place(f"server-{number}")
        assert place is not None
        assert all(is_name(name) or not name for name in (place.migration, place.board)), kind


# -- rows -------------------------------------------------------------------------------------------------


def sql(statement: str) -> Callable[[Yard, Migration], None]:
    """Damage rows as *statement* says."""

    def damage(yard: Yard, row: Migration) -> None:
        with yard.database.transaction() as session:
            for part in statement.split(";"):
                filled = part.replace("{flow}", row.flow_uuid).replace("{uuid}", row.uuid)
                session.connection().exec_driver_sql(filled)

    return damage


def atom(columns: str, step: str = "look") -> Callable[[Yard, Migration], None]:
    """Damage the row of a step."""
    return sql(f"UPDATE atoms SET {columns} WHERE flow_uuid = '{{flow}}' AND name = '{step}'")


def meta(value: str) -> Callable[[Yard, Migration], None]:
    """Damage what is on record of the flow."""
    return sql(f"UPDATE flows SET meta = {value} WHERE uuid = '{{flow}}'")


#: What is damaged, and what an operator is told of it.
PARKED = {
    "meta is no JSON": (meta("'{\"format\"'"), "cannot be read"),
    "meta is a list": (meta("'[]'"), "cannot be read"),
    "meta is nested deep": (meta(f"'{DEEP.decode()}'"), "cannot be read"),
    "meta of another format": (meta("json_set(meta, '$.format', 2)"), "format 2 is not known"),
    "a shape of text": (meta("json_set(meta, '$.shape', 'look')"), "cannot be read"),
    "an unknown step": (meta("json_set(meta, '$.shape[0].name', 'jump')"), "no record of jump"),
    "an unknown field": (meta("json_set(meta, '$.shape[0].how', 'well')"), "cannot be read"),
    "no ending": (meta("json_remove(meta, '$.reverted.status')"), "cannot be read"),
    "a step less": (
        sql("DELETE FROM atoms WHERE flow_uuid = '{flow}' AND name = 'send'"),
        "no record of send",
    ),
    "a step elsewhere": (meta("json_set(meta, '$.shape[0].where', 'dest')"), "has no step 'look'"),
    "an unknown state": (atom("state = 'BANANA'"), "no known state"),
    "an unknown intention": (atom("intention = 'PONDER'"), "no known state"),
    "a failure of text": (
        atom("failure = '\"no\"', state = 'FAILURE', intention = 'REVERT'"),
        "the failure of look",
    ),
    "a failure of nonsense": (
        atom("failure = '{\"a\": 1}', state = 'FAILURE', intention = 'REVERT'"),
        "look: ",
    ),
    "a result that is no JSON": (atom("results = '{', state = 'SUCCESS'"), "result of look is no JSON"),
    "a version of text": (atom("version = 'one.two'"), "look: "),
}


def test_damaged_flows_are_parked_and_the_next_job_is_done(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {kind: yard.ask() for kind in PARKED}
    for kind, (damage, _) in PARKED.items():
        damage(yard, yard.migration(bad[kind]))
    good = work_on(yard, caplog)
    wrong = []
    for kind, (_, says) in PARKED.items():
        row = yard.wait_for_end(bad[kind])
        wait_until(lambda one=bad[kind]: yard.board.parked(one) is not None, f"the notice of {kind}", 60)
        notice = yard.board.parked(bad[kind]) or {}
        parked = (row.phase, row.outcome) == ("parked", "parked") and says in notice.get("reason", "")
        if not parked or says not in str(row.error) or yard.acted_on(bad[kind]):
            wrong.append(f"{kind}: {row.phase}, {row.outcome}, {row.error}, {yard.acted_on(bad[kind])}")
    assert not wrong, "\n".join(wrong)
    look(yard, good, *bad.values())


def test_what_fails_for_a_reason_that_nobody_foresaw_is_parked_after_some_attempts(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = yard.ask()
    flow = yard.migration(bad).flow_uuid

    def broken(_session: Any, uuid: str) -> Any:
        if uuid == flow:
            raise LookupError("the record is odd")
        return loads(_session, uuid)

    from hostler.jobboard import leg

    loads = leg.load_flow
    monkeypatch.setattr(leg, "load_flow", broken)
    work_on(yard, caplog, max_attempts=2)
    row = yard.wait_for_end(bad)
    assert row.phase == "parked"
    assert row.error == "kvm1 failed 2 times at it: LookupError: the record is odd"


def test_a_debt_that_cannot_be_paid_holds_up_its_own_server_alone(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    columns = "host, migration_uuid, task, flow_uuid, position, created_at"
    owing = {(task, flow): yard.ask() for task in ("look", "jump") for flow in ("{flow}", "no-flow")}
    for (task, flow), bad in owing.items():
        sql(
            f"INSERT INTO debts ({columns}) VALUES"
            f" ('kvm1', '{{uuid}}', '{task}', '{flow}', 0, '2026-01-01 00:00:00');"
            "UPDATE atoms SET results = '{' WHERE flow_uuid = '{flow}'"
        )(yard, yard.migration(bad))
    work_on(yard, caplog)
    for (task, _), bad in owing.items():
        assert yard.migration(bad).phase in ("posting", "open"), "it is not taken"
        assert yard.acted_on(bad) == []
        assert f"kvm1 owes the undo of {task} of migration {bad}" in caplog.text
    look(yard, *owing.values())


def test_a_report_that_is_no_json_hides_no_other_migration(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    bad = yard.ask()
    sql("UPDATE migrations SET report = '{', flow_name = '../x' WHERE uuid = '{uuid}'")(
        yard, yard.migration(bad)
    )
    good = work_on(yard, caplog)
    assert yard.wait_for_end(bad).outcome == "success"
    look(yard, bad)
    look(yard, good)
    with yard.database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM migrations")).scalar() == 2
