"""A real RabbitMQ, up for the tests of this folder."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from lab.services import RabbitMQ


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """kombu leaves the socket of a connection that broke to the garbage collector: it shall do so here."""
    yield
    gc.collect()


@pytest.fixture(scope="package")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """The broker; each test takes an exchange of its own."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def broker(rabbitmq: RabbitMQ) -> RabbitMQ:
    """The broker, running whatever the test before has done to it."""
    rabbitmq.start()
    return rabbitmq
