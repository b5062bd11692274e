"""What tests of several folders share: databases, empty and made new for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from hostler.records.database import Database
from lab.postgres import postgres


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say a figure at the end of the run, whichever process this test runs in."""
    return lambda figure: request.node.user_properties.append(("figure", figure))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.getreports(outcome)]
    figures = [text for report in reports for name, text in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.line(text)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a private PostgreSQL, up for the whole run."""
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def new_postgres_database(postgres_server: str) -> Callable[[], str]:
    """Make an empty database at each call; return its URL."""
    numbers = itertools.count(1)

    def make() -> str:
        engine = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
        name = f"hostler{next(numbers)}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        url = engine.url.set(database=name).render_as_string(hide_password=False)
        engine.dispose()
        return url

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; the test runs once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    make: Callable[[], str] = request.getfixturevalue("new_postgres_database")
    return make()


@pytest.fixture
def any_database(any_url: str) -> Iterator[Database]:
    """Records with their tables; the test runs once on each kind."""
    yield from _with_tables(any_url)


@pytest.fixture
def postgres_database(new_postgres_database: Callable[[], str]) -> Iterator[Database]:
    """Records with their tables, on PostgreSQL."""
    yield from _with_tables(new_postgres_database())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Records with their tables, on SQLite."""
    yield from _with_tables(f"sqlite:///{tmp_path}/records.db")


def _with_tables(url: str) -> Iterator[Database]:
    database = Database(url)
    database.upgrade()
    yield database
    database.close()
