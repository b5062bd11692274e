"""The connection to the records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from hostler.errors import BadConfiguration, ServerUnreachable

#: What SQLAlchemy raises when the database is away, full of work, or shutting down.
AWAY = (DBAPIError, PoolTimeout)
#: SQLSTATE of a write to a standby: the server that takes writes is elsewhere, or not yet back.
READ_ONLY = "25006"
#: What a URL without a driver means: the ones that come with hostler. SQLAlchemy's choice varies by version.
DRIVERS = {
    "postgresql": "postgresql+psycopg2",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
#: How much longer than a connection a statement may go unanswered by the network.
PATIENCE = 3
_NEWER = "hostler --version; the tables are of a newer one, which is to be installed here, too"


class Database:
    """The records of one installation.

    A database that does not answer is :class:`~hostler.errors.ServerUnreachable`, which names it without
    its password.
    """

    def __init__(self, url: str, connect_timeout_s: int = 5) -> None:
        try:
            self.engine = _engine(make_url(url), connect_timeout_s)
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
            hint = "pip install 'hostler[postgresql]'; 'hostler[mysql]' brings the driver of the other"
            raise BadConfiguration(where="[database] connection", problem=str(error), hint=hint) from error
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._readers = sessionmaker(self.engine.execution_options(read_only=True), expire_on_commit=False)

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session whose changes are committed together, or not at all."""
        with self._away_is_unreachable(), self._sessions.begin() as session:
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Give a transaction without a session, for a statement that is carried out often."""
        with self._away_is_unreachable(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that only reads and holds nobody up."""
        with self._away_is_unreachable(), self._readers.begin() as session:
            yield session

    @contextmanager
    def _away_is_unreachable(self) -> Iterator[None]:
        try:
            yield
        except AWAY as error:
            if not is_away(error):
                raise
            reason = first_line(error)
            raise ServerUnreachable(what="the database", where=self.address, reason=reason) from error

    def check(self) -> None:
        """Refuse a database whose tables are not those of this version."""
        with self.reading() as session:
            found = MigrationContext.configure(session.connection()).get_current_revision()
        scripts = ScriptDirectory.from_config(self._alembic())
        wanted = scripts.get_current_head()
        if found != wanted:
            state = f"is at revision {found}, not {wanted}" if found else "has no tables yet"
            older = found is None or found in {script.revision for script in scripts.walk_revisions()}
            hint = "hostler db upgrade" if older else _NEWER
            raise BadConfiguration(where=self.address, problem=f"the database {state}", hint=hint)

    def upgrade(self) -> str:
        """Bring the tables to this version; return its revision. Nothing if they are there already."""
        config = self._alembic()
        with self.transaction() as session:
            config.attributes["connection"] = session.connection()
            try:
                command.upgrade(config, "head")
            except CommandError as error:  # a revision that only a newer hostler knows
                raise BadConfiguration(where=self.address, problem=str(error), hint=_NEWER) from error
        return ScriptDirectory.from_config(config).get_current_head() or ""

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @staticmethod
    def _alembic() -> Config:
        config = Config()
        folder = str(Path(__file__).with_name("migrations"))
        config.set_main_option("script_location", folder.replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        return config


def is_away(error: BaseException) -> bool:
    """Tell a database that does not answer from a statement that it refused."""
    if isinstance(error, (PoolTimeout, OperationalError, InterfaceError)):
        return True
    original = getattr(error, "orig", None)
    read_only = READ_ONLY in (getattr(original, "pgcode", None), getattr(original, "sqlstate", None))
    return bool(getattr(error, "connection_invalidated", False)) or read_only


def first_line(error: BaseException) -> str:
    """The error's first line: drivers append hints and SQL."""
    original = getattr(error, "orig", None) or error
    return (str(original).strip().splitlines() or [type(original).__name__])[0]


class Unreadable:
    """What a column of JSON holds that is none: it has no fields, so that whoever uses it finds it damaged.

    Raising instead would hide every row that is read together with it.
    """


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Unreadable()


def _engine(url: URL, connect_timeout_s: int) -> Engine:
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url,
            json_deserializer=_loads,
            connect_args={"timeout": connect_timeout_s, "check_same_thread": False},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin)
        return engine
    return create_engine(
        url,
        json_deserializer=_loads,
        pool_pre_ping=True,
        pool_timeout=connect_timeout_s,
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": connect_timeout_s} | _patience(url, PATIENCE * connect_timeout_s),
    )


def _patience(url: URL, seconds: int) -> dict[str, Any]:
    """Give up a connection whose other end has vanished, as after a power cut, in time to say so.

    A process that is frozen within a transaction has not vanished: its kernel answers. PostgreSQL ends that
    transaction by itself, or the row of a fence stayed locked for whoever takes the migration over.
    """
    if url.get_backend_name() == "postgresql":
        held = f"-c idle_in_transaction_session_timeout={seconds * 1000}"
        return {
            "tcp_user_timeout": seconds * 1000,
            "keepalives_idle": seconds,
            "keepalives_interval": 2,
            "options": " ".join(filter(None, [str(url.query.get("options", "")), held])),
        }
    return {"read_timeout": 2 * seconds, "write_timeout": 2 * seconds}


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # pysqlite's own BEGIN comes too late: a reader could not become a writer.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Any) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
