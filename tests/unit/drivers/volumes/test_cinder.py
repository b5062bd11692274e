"""Volumes of a Cinder that lives in memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest

from hostler.drivers.volumes.cinder_fake import FakeVolumeService
from hostler.errors import ServerUnreachable, VolumeUnreachable
from tests.support.contracts.cinder import *  # noqa: F403 - the tests are the module's
from tests.support.contracts.cinder import World, refused, volume_of

AWAY = ServerUnreachable(what="Cinder", where="memory", reason="it is away")


@dataclass
class InMemory:
    """A :class:`~tests.support.contracts.cinder.Stand`."""

    service: FakeVolumeService

    def add_volume(self, protocol: str = "rbd", *, shared: bool = False) -> str:
        return self.service.add_volume(protocol, multiattach=shared)

    def attach(self, volume: str, server: str, host: str, device: str) -> str:
        return self.service.attach(volume, server, host, device)

    def open_to(self, volume: str) -> list[str]:
        return sorted(self.service.volumes[volume].open_to)

    def refuse(self, *hosts: str) -> None:
        self.service.refused = set(hosts)

    def break_volume(self, volume: str) -> None:
        stored = self.service.volumes[volume]
        stored.volume = dataclasses.replace(stored.volume, status="error")

    def fail_next(self, call: str, times: int) -> None:
        self.service.fail_next(call, AWAY, times)

    def lose_next_answer(self, call: str) -> None:
        self.service.lose_next(call, AWAY)


@pytest.fixture
def cinder() -> InMemory:
    return InMemory(FakeVolumeService())


def test_an_encrypted_volume_is_refused_by_that_name(short: World, cinder: InMemory) -> None:
    made = cinder.service.add_volume(encrypted=True)
    cinder.attach(made, short.instance, "kvm1", "/dev/vdd")
    short.volumes = [volume_of(made, "d")]
    assert "it is encrypted: not supported yet" in refused(short)


def test_a_target_that_wants_a_password_is_refused(short: World, cinder: InMemory) -> None:
    made = cinder.add_volume("iscsi")
    cinder.attach(made, short.instance, "kvm1", "/dev/vdd")
    stored = cinder.service.volumes[made]
    (one,) = stored.volume.attachments
    secret = {**one.connection, "auth_method": "CHAP", "auth_password": "hush"}
    stored.volume = dataclasses.replace(
        stored.volume, attachments=[dataclasses.replace(one, connection=secret)]
    )
    short.volumes = [volume_of(made, "d", "iscsi")]
    assert "wants a password of each host (CHAP)" in refused(short)
    assert "hush" not in repr(stored.volume)


def test_a_volume_that_goes_while_the_server_moves_fails_it_and_is_said(
    short: World, cinder: InMemory
) -> None:
    short.reserve()
    short.let_go()
    cinder.service.volumes.clear()
    with pytest.raises(Exception, match=r"Cinder refuses: 404: Volume .* could not be found"):
        short.take()
    with pytest.raises(Exception, match="could not be found"):
        short.take_back()
    short.release()


def test_an_attachment_that_cannot_be_read_back_is_no_connection(short: World, cinder: InMemory) -> None:
    short.reserve()
    short.let_go()
    cinder.service.connect = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(VolumeUnreachable, match="is reserved, and Cinder does not say how it is reached"):
        short.take()
