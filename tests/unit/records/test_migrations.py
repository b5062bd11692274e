"""The tables that Alembic makes are the tables that the code expects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_mock_engine, inspect, text

from hostler.errors import BadConfiguration
from hostler.records.database import Database
from hostler.records.models import Base


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
    with pytest.raises(BadConfiguration, match="is at revision 9999"):
        database.check()
    with pytest.raises(BadConfiguration, match="9999") as refused:
        database.upgrade()
    assert refused.value.hint.startswith("hostler --version; the tables are of a newer one")


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
