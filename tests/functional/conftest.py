"""Real servers that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.zookeeper import zookeeper
from tests.support.world import World


@pytest.fixture(scope="session")
def zookeeper_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a private ZooKeeper, up for the whole run; each test takes a root of its own."""
    with zookeeper(tmp_path_factory.mktemp("zookeeper")) as hosts:
        yield hosts


@pytest.fixture
def world(tmp_path: Path, zookeeper_hosts: str) -> Iterator[World]:
    """Two hosts in one process."""
    made = World(tmp_path, zookeeper_hosts, f"sqlite:///{tmp_path}/hostler.db")
    yield made
    made.close()
