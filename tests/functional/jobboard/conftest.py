"""Sessions of a real ZooKeeper, and two hosts whose drivers do nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from hostler.jobboard.board import Board
from hostler.jobboard.jobs import Posting
from tests.functional.jobboard.yard import Yard, connected

NewBoard = Callable[[], Board]


@pytest.fixture
def root() -> str:
    """A node of this test's own."""
    return f"/board-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def new_board(zookeeper_hosts: str, root: str) -> Iterator[NewBoard]:
    """Make the boards as one more session sees them."""
    clients: list[KazooClient] = []

    def make() -> Board:
        clients.append(connected(zookeeper_hosts))
        return Board(clients[-1], root)

    yield make
    for client in clients:
        client.stop()
        client.close()


@pytest.fixture
def board(new_board: NewBoard) -> Board:
    """The boards of kvm1 and kvm2, as one session sees them."""
    made = new_board()
    made.ensure("kvm1", "kvm2")
    return made


@pytest.fixture
def posting() -> Posting:
    """A job that nobody has claimed."""
    return Posting(str(uuid.uuid4()), str(uuid.uuid4()), "cold_migration", str(uuid.uuid4()))


@pytest.fixture
def yard(tmp_path: Path, zookeeper_hosts: str) -> Iterator[Yard]:
    """Two hosts with records on SQLite."""
    with Yard(tmp_path, zookeeper_hosts, f"sqlite:///{tmp_path}/records.db") as made:
        yield made


@pytest.fixture
def any_yard(tmp_path: Path, zookeeper_hosts: str, any_url: str) -> Iterator[Yard]:
    """Two hosts; the test runs once on each kind of database."""
    with Yard(tmp_path, zookeeper_hosts, any_url) as made:
        yield made
