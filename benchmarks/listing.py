"""Measures how long the first page of ten thousand migrations takes, and a page far behind.

Run as ``python -m benchmarks.listing [URL]``; without a URL in a file of SQLite. The database must be empty.
"""

from __future__ import annotations

import datetime
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from hostler.records.database import Database
from hostler.records.models import Base, Migration, new_uuid
from hostler.views import listing
from hostler.views.listing import Page, Wanted

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


def page(database: Database, wanted: Wanted, after: str | None = None) -> tuple[Page, float]:
    """Return a page and the median of the milliseconds that it takes."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with database.reading() as session:
            found = listing.page(session, wanted, after=after)
        took.append((time.perf_counter() - began) * 1000)
    return found, statistics.median(took)


def main(url: str) -> None:
    """Fill the database, and print the times."""
    database = Database(url)
    Base.metadata.create_all(database.engine)
    with database.transaction() as session:
        session.execute(insert(Migration), list(rows()))
    first, first_ms = page(database, Wanted())
    after = first.following
    for _ in range(100):
        with database.reading() as session:
            after = listing.page(session, Wanted(), after=after).following
    times = {
        "first page": first_ms,
        "page 102": page(database, Wanted(), after)[1],
        "first page of the parked": page(database, Wanted(state="parked"))[1],
    }
    for what, took in times.items():
        print(f"{what}: {took:.1f} ms (aim: {AIM_MS:.0f})")
    database.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{Path(directory)}/records.sqlite")
