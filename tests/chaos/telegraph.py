"""When a step of a migration begins: told by the database itself, so that a strike lands in it and not behind it."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import psycopg2

TRIGGER = """
CREATE OR REPLACE FUNCTION chaos_tell() RETURNS trigger AS $$
DECLARE server text;
BEGIN
    SELECT m.instance_uuid INTO server FROM flows f JOIN migrations m ON m.uuid = f.migration_uuid
    WHERE f.uuid = NEW.flow_uuid;
    PERFORM pg_notify('steps', concat_ws(' ', server, NEW.state, NEW.name));
    RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE OR REPLACE TRIGGER chaos_tell AFTER UPDATE OF state ON atoms
FOR EACH ROW WHEN (NEW.state IS DISTINCT FROM OLD.state) EXECUTE FUNCTION chaos_tell();
"""
#: What psycopg2 raises when the database is away, or goes in the middle.
AWAY = (psycopg2.OperationalError, psycopg2.InterfaceError)
#: Between two attempts to reach a database that is away.
PAUSE_S = 0.1


class Telegraph:
    """Listens for as long as a ``with`` block lasts; also reads the records, and waits while they are away."""

    def __init__(self, url: str) -> None:
        self._dsn = url.replace("postgresql+psycopg2", "postgresql")
        self._changed = threading.Condition()
        self._seen: set[tuple[str, str, str]] = set()
        self._now: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="telegraph", daemon=True)

    def read(self, statement: str, arguments: Sequence[Any] = (), timeout_s: float = 120) -> list[Any]:
        """The rows of a query, once the database answers."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self._ask(statement, arguments)
            except AWAY:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_S)

    def forget(self) -> None:
        """Begin a round: what was seen before does not count."""
        with self._changed:
            self._seen.clear()
            self._now.clear()

    def now(self, server: str) -> str:
        """The step that began last for a server."""
        with self._changed:
            return self._now.get(server, "nothing yet")

    def wait(self, server: str, step: str, state: str, is_over: Callable[[], bool]) -> bool:
        """Wait until the step begins; False if everything is over before that."""
        with self._changed:
            while (server, step, state) not in self._seen:
                if is_over():
                    return False
                self._changed.wait(0.5)
        return True

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow()
            except AWAY:
                self._ended.wait(PAUSE_S)

    def _follow(self) -> None:
        connection = psycopg2.connect(self._dsn, connect_timeout=2)
        try:
            connection.autocommit = True
            connection.cursor().execute("LISTEN steps")
            while not self._ended.is_set():
                if select.select([connection], [], [], 0.5)[0]:
                    connection.poll()
                    self._take([notice.payload for notice in connection.notifies])
                    connection.notifies.clear()
        finally:
            connection.close()

    def _take(self, payloads: Sequence[str]) -> None:
        with self._changed:
            for payload in payloads:
                server, state, step = payload.split(maxsplit=2)
                self._seen.add((server, step, state))
                if state in ("RUNNING", "REVERTING"):
                    self._now[server] = f"{step}{'' if state == 'RUNNING' else ' (undo)'}"
            self._changed.notify_all()

    def _ask(self, statement: str, arguments: Sequence[Any]) -> list[Any]:
        connection = psycopg2.connect(self._dsn, connect_timeout=2)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, tuple(arguments))
                return cursor.fetchall()
        finally:
            connection.close()

    def __enter__(self) -> Self:
        connection = psycopg2.connect(self._dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute(TRIGGER)
        connection.close()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
