"""What races for a host's last places in a Placement that has its tables in MariaDB, as most have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.services import MariaDB, Placement
from tests.cloud.test_placement import placement
from tests.support.contracts.placement import test_sixteen_want_eight_places_and_eight_get_one

__all__ = ["placement", "test_sixteen_want_eight_places_and_eight_get_one"]


@pytest.fixture(scope="module")
def real_placement(real_mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Placement]:
    """A private Placement."""
    home = tmp_path_factory.mktemp("services") / "placement"
    with Placement(home, mariadb=real_mariadb) as service:
        yield service
