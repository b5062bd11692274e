"""The database: when it is away it is named, without its password, and in time."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from hostler.errors import BadConfiguration, ServerUnreachable
from hostler.records.database import Database
from hostler.records.models import AtomRow
from lab.postgres import PostgreSQL
from tests.records_made import make_host


def ask(url: str) -> str:
    """Ask for anything; return what the database's absence is called."""
    database = Database(url, connect_timeout_s=1)
    with pytest.raises(ServerUnreachable) as unreachable, database.reading() as session:
        session.execute(text("SELECT 1"))
    database.close()
    return str(unreachable.value)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://hostler:s3cret@127.0.0.1:1/hostler", "postgresql+psycopg2"),
        ("mysql://hostler:s3cret@127.0.0.1:1/hostler", "mysql+pymysql"),
    ],
)
def test_a_server_that_is_down_is_named_without_its_password(url: str, driver: str) -> None:
    said = ask(url)
    assert said.startswith(f"the database does not answer at {driver}://hostler:***@127.0.0.1:1/hostler: ")
    assert "s3cret" not in said
    assert "\n" not in said


def test_a_server_that_takes_connections_and_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ask(f"postgresql://hostler@127.0.0.1:{port}/hostler")


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none/records.db" in ask(f"sqlite:///{tmp_path}/none/records.db")


@pytest.mark.parametrize(
    "url", ["", "nonsense", "oracle+none://x", "postgresql+none://x", "postgresql://x:port/y"]
)
def test_a_setting_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadConfiguration, match=r"\[database\] connection") as refused:
        Database(url)
    assert refused.value.hint


def test_a_writer_in_the_way_is_waited_for_and_then_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/records.db"
    first, second = Database(url), Database(url, connect_timeout_s=1)
    first.upgrade()
    with first.transaction() as session:
        make_host(session)
        with pytest.raises(ServerUnreachable, match="locked"), second.transaction() as rival:
            make_host(rival)
        with second.reading() as reader:
            assert reader.execute(text("SELECT count(*) FROM hosts")).scalar() == 0
    with second.reading() as session:
        assert session.execute(text("SELECT count(*) FROM hosts")).scalar() == 1
    first.close()
    second.close()


def test_a_server_that_restarts_is_found_again(tmp_path: Path) -> None:
    with PostgreSQL(tmp_path / "postgres") as server:
        database = Database(server.url(), connect_timeout_s=2)
        database.upgrade()
        server.stop()
        with pytest.raises(ServerUnreachable), database.transaction() as session:
            make_host(session)
        server.start()
        with database.transaction() as session:
            make_host(session)
        server.stop()
        server.start()
        with database.reading() as session:
            assert session.execute(text("SELECT count(*) FROM hosts")).scalar() == 1
        database.close()


def test_a_connection_that_breaks_within_a_transaction_is_an_absence(postgres_database: Database) -> None:
    with pytest.raises(ServerUnreachable), postgres_database.transaction() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_a_standby_counts_as_away(postgres_database: Database) -> None:
    with pytest.raises(ServerUnreachable, match="read-only"), postgres_database.transaction() as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        make_host(session)


def test_two_that_wait_for_each_other_are_told_to_try_again(postgres_database: Database) -> None:
    with postgres_database.transaction() as session:
        make_host(session, "a")
        make_host(session, "b")
    lock = (
        "import sys, time; from sqlalchemy import text; from hostler.records.database import Database\n"
        "database = Database(sys.argv[1])\n"
        "with database.transaction() as session:\n"
        "    for name in sys.argv[2]:\n"
        "        session.execute(text('UPDATE hosts SET vcpus = 1 WHERE name = :name'), {'name': name})\n"
        "        time.sleep(1)\n"
    )
    both = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                lock,
                postgres_database.engine.url.render_as_string(hide_password=False),
                order,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for order in ("ab", "ba")
    ]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert "ServerUnreachable" in "".join(said)


def test_what_the_database_refuses_is_no_absence(any_database: Database) -> None:
    for _ in range(2):
        with any_database.transaction() as session:
            make_host(session)
    with pytest.raises(IntegrityError), any_database.transaction() as session:
        session.execute(text("INSERT INTO fences (migration_uuid, epoch) VALUES ('m', 1), ('m', 2)"))
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"), any_database.transaction() as session:
        session.add(AtomRow(uuid="u", flow_uuid="no such flow", position=1, name="PowerOff"))
