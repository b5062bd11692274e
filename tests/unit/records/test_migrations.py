"""The tables that Alembic makes are the tables that the code expects."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, Table, create_mock_engine, func, inspect, select, text

from hostler.errors import BadConfiguration
from hostler.records.database import Database
from hostler.records.models import Base, Host, Migration, now


def test_the_tables_are_those_of_the_models(any_database: Database) -> None:
    with any_database.reading() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_names_of_keys_are_those_of_the_models(any_database: Database) -> None:
    # A later revision can only drop what it can name.
    with any_database.reading() as session:
        inspector = inspect(session.connection())
        for table in Base.metadata.sorted_tables:
            assert inspector.get_pk_constraint(table.name)["name"] == table.primary_key.name
            assert {key["name"] for key in inspector.get_foreign_keys(table.name)} == {
                key.name for key in table.foreign_key_constraints
            }


def test_a_second_upgrade_changes_nothing(any_database: Database) -> None:
    assert any_database.upgrade() == any_database.upgrade()
    any_database.check()


def test_two_upgrades_at_once_make_the_tables_once(any_url: str) -> None:
    upgrade = (
        "import sys; from hostler.records.database import Database;"
        "database = Database(sys.argv[1], connect_timeout_s=30); database.upgrade(); database.check()"
    )
    processes = [subprocess.Popen([sys.executable, "-c", upgrade, any_url]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_a_database_without_tables_names_the_command_that_makes_them(any_url: str) -> None:
    database = Database(any_url)
    with pytest.raises(BadConfiguration, match="has no tables yet") as refused:
        database.check()
    assert refused.value.hint == "hostler db upgrade"
    database.close()


def test_the_tables_of_a_newer_hostler_are_left_alone(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refusing, words in ((database.check, "is at revision 9999"), (database.upgrade, "9999")):
        with pytest.raises(BadConfiguration, match=words) as refused:
            refusing()
        assert refused.value.hint.startswith("hostler --version; the tables are of a newer one")


def row_of(table: Table) -> dict[str, Any]:
    """Return a row with what a table cannot do without."""
    values = {int: 1, str: "1", bool: False, float: 1.0, datetime.datetime: now()}
    needed = [one for one in table.columns if not one.nullable and one.server_default is None]
    return {one.name: values.get(one.type.python_type, {}) for one in needed if one.autoincrement is not True}


def columns(database: Database) -> dict[str, dict[str, Any]]:
    with database.reading() as session:
        inspector = inspect(session.connection())
        return {
            table: {column["name"]: column for column in inspector.get_columns(table)}
            for table in inspector.get_table_names()
        }


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_the_tables_of_an_older_hostler_are_brought_here_with_what_is_in_them(
    any_url: str, revision: str
) -> None:
    database, older = Database(any_url), MetaData()
    with database.transaction() as session:
        settings = database._alembic()
        settings.attributes["connection"] = session.connection()
        command.upgrade(settings, revision)
        older.reflect(session.connection())
        for name in ("hosts", "migrations", "receivers"):
            session.execute(older.tables[name].insert().values(row_of(older.tables[name])))
    before = columns(database)
    with pytest.raises(BadConfiguration, match=f"is at revision {revision}") as refused:
        database.check()
    assert refused.value.hint == "hostler db upgrade"
    database.upgrade()
    database.check()
    with database.reading() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert [session.scalar(select(func.count()).select_from(table)) for table in (Host, Migration)] == [
            1,
            1,
        ]
    # hosts are upgraded one by one: what an older worker writes has its place in the newer tables
    after = columns(database)
    for table, known in before.items():
        assert known.keys() <= after[table].keys()
        added = [after[table][name] for name in after[table].keys() - known.keys()]
        assert [one["name"] for one in added if not one["nullable"] and one["default"] is None] == []
    database.close()


def test_an_upgrade_that_fails_leaves_nothing_behind(any_url: str) -> None:
    database = Database(any_url)
    with database.transaction() as session:
        session.execute(text("CREATE TABLE progress (id INTEGER)"))
    with pytest.raises(Exception, match="progress"):
        database.upgrade()
    with database.reading() as session:
        assert inspect(session.connection()).get_table_names() == ["progress"]
    database.close()


def test_mariadb_can_make_the_tables() -> None:
    statements: list[str] = []

    def keep(statement: Any, *_: Any, **__: Any) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine("mysql+pymysql://", keep)
    Base.metadata.create_all(engine, checkfirst=False)
    assert any("created_at DATETIME(6)" in statement for statement in statements)
    for table in Base.metadata.sorted_tables:
        key_bytes = sum(4 * getattr(column.type, "length", 2) for column in table.primary_key)
        assert key_bytes <= 3072, f"InnoDB refuses the key of {table.name}"


def test_every_revision_is_shipped() -> None:
    folder = Path(__file__).parents[3] / "hostler/records/migrations"
    assert (folder / "__init__.py").exists()
    assert (folder / "versions/__init__.py").exists()
