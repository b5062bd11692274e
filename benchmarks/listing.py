"""Measures how long the first page of ten thousand migrations takes, and a page far behind.

Also the first page in a browser, as ``hostler web`` serves it. Run as ``python -m benchmarks.listing``; on SQLite, and
on a PostgreSQL of its own.
"""

from __future__ import annotations

import datetime
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import uvicorn
from sqlalchemy import insert

from hostler import conf as settings
from hostler.jobboard.client import Client
from hostler.records.database import Database
from hostler.records.models import Migration, new_uuid
from hostler.views import listing
from hostler.views.listing import Page, Wanted
from hostler.web import tokens
from hostler.web.app import application
from lab.postgres import PostgreSQL

COUNT = 10_000
ROUNDS = 20
AIM_MS = 200.0


def rows() -> Iterator[dict[str, Any]]:
    """Give the migrations, a minute apart; every hundredth is parked."""
    start = datetime.datetime.fromisoformat("2026-01-01T00:00:00")
    for number in range(COUNT):
        at = start + datetime.timedelta(minutes=number)
        parked = number % 100 == 0
        yield {
            "uuid": new_uuid(),
            "instance_uuid": new_uuid(),
            "instance_name": f"server{number}",
            "migration_type": "migration",
            "status": "confirmed",
            "flow_name": "confirm_resize",
            "phase": "parked" if parked else "closed",
            "outcome": "parked" if parked else "success",
            "source_compute": f"kvm{number % 50}",
            "dest_compute": f"kvm{number % 49}",
            "flow_uuid": new_uuid(),
            "request_id": "req-1",
            "requested_by": "root",
            "created_at": at,
        }


def median_ms(action: Callable[[], object]) -> float:
    """Return the median of the milliseconds that *action* takes."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def page(database: Database, wanted: Wanted, after: str | None = None) -> Page:
    """Return a page of the list."""
    with database.reading() as session:
        return listing.page(session, wanted, after=after)


@contextmanager
def served(directory: Path, url: str) -> Iterator[Callable[[], requests.Response]]:
    """Serve the pages; give what fetches the first one."""
    conf = settings.load(["/dev/null"])
    conf.set_override("connection", url, "database")
    conf.set_override("hosts", ["127.0.0.1:1"], "zookeeper")  # the list asks the records alone
    token = tokens.issue(directory / "tokens", "benchmark", "reader", 1)
    with Client(conf) as client, socket.create_server(("127.0.0.1", 0)) as listening:
        app = application(client, tokens.Tokens(directory / "tokens"))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        try:
            yield lambda: fetched(address, token)
        finally:
            server.should_exit = True
            thread.join()


def fetched(address: str, token: str) -> requests.Response:
    """Return the page at *address*; a refusal is no page."""
    answer = requests.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    answer.raise_for_status()
    return answer


def measure(directory: Path, kind: str, url: str) -> None:
    """Fill the database, and print the times."""
    database = Database(url)
    database.upgrade()
    with database.transaction() as session:
        session.execute(insert(Migration), list(rows()))
    after = page(database, Wanted()).following
    for _ in range(100):
        after = page(database, Wanted(), after).following
    times = {
        "first page": median_ms(lambda: page(database, Wanted())),
        "page 102": median_ms(lambda: page(database, Wanted(), after)),
        "first page of the parked": median_ms(lambda: page(database, Wanted(state="parked"))),
    }
    with served(directory, url) as fetch:
        times["first page in a browser, from the request to its last byte"] = median_ms(fetch)
    for what, took in times.items():
        print(f"{kind}: {what}: {took:.1f} ms (aim: {AIM_MS:.0f})")
    database.close()


def main() -> None:
    """Measure on each kind of database."""
    with tempfile.TemporaryDirectory(prefix="hostler-listing-") as name:
        directory = Path(name)
        measure(directory, "SQLite", f"sqlite:///{directory}/records.sqlite")
        with PostgreSQL(directory / "postgresql") as server:
            measure(directory, "PostgreSQL", server.create_database("listing"))


if __name__ == "__main__":
    main()
