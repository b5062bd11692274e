"""Who has locked an image, while it is written to and after its client has died.

A module that takes these tests gives the fixture *stand*.
"""

from __future__ import annotations

from typing import Protocol

from hostler.drivers.volumes.rbd import Locks
from hostler.objects import Volume


class Stand(Protocol):
    """An image, and one client that may have it open."""

    locks: Locks
    volume: Volume

    def hold(self) -> None:
        """Let the client write to it."""

    def let_go(self) -> None:
        """Let the client end as it should."""

    def die(self) -> None:
        """Kill the client."""

    def forget(self) -> None:
        """Wait until nobody believes in it any more."""

    def type(self, command: str) -> None:
        """Let an operator type that."""


def test_an_image_that_nobody_has_open_is_not_locked(stand: Stand) -> None:
    assert stand.locks.of(stand.volume) == []


def test_what_is_no_image_of_ceph_knows_no_locks(stand: Stand) -> None:
    assert stand.locks.of(Volume("vda", "nbd", stand.volume.name, ["10.0.0.1"])) == []


def test_a_client_that_writes_has_it_locked_until_it_ends(stand: Stand) -> None:
    stand.hold()
    (held,) = stand.locks.of(stand.volume)
    assert held.watched
    assert held.client.startswith("client.")
    assert held.address in str(held)
    stand.let_go()
    assert stand.locks.of(stand.volume) == []


def test_the_lock_of_a_client_that_died_stays_until_an_operator_breaks_it(stand: Stand) -> None:
    stand.hold()
    (before,) = stand.locks.of(stand.volume)
    stand.die()
    stand.forget()
    (held,) = stand.locks.of(stand.volume)
    assert not held.watched
    assert (held.id, held.client) == (before.id, before.client)
    stand.type(stand.locks.breaking(stand.volume, held))
    assert stand.locks.of(stand.volume) == []
