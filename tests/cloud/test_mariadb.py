"""The records on a real MariaDB: what races for a place or a quota gets it once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from hostler.records.database import Database
from lab.services import MariaDB
from tests.functional.test_claims_race import *  # noqa: F403 - the tests are the module's
from tests.functional.test_quota_race import *  # noqa: F403

numbers = itertools.count(1)


@pytest.fixture
def any_url(real_mariadb: MariaDB) -> str:
    """The URL of an empty database."""
    return real_mariadb.create_database(f"hostler{next(numbers)}")


@pytest.fixture
def any_database(any_url: str) -> Iterator[Database]:
    """Records with their tables."""
    database = Database(any_url)
    database.upgrade()
    yield database
    database.close()
