"""Volumes of a Cinder that lives in memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from hostler.drivers.volumes.cinder import CinderVolumes
from hostler.drivers.volumes.cinder_fake import FakeVolumeService
from hostler.drivers.volumes.network import NetworkVolumes
from hostler.drivers.volumes.rbd_fake import FakeLocks
from hostler.errors import ServerUnreachable, VolumeUnreachable
from hostler.objects import Secret
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


def encrypted(world: World, cinder: InMemory, **facts: Any) -> None:
    made = cinder.service.add_volume(encrypted=True)
    cinder.attach(made, world.instance, "kvm1", "/dev/vdd")
    world.volumes = [dataclasses.replace(volume_of(made, "d"), **facts)]


def test_an_encrypted_volume_without_a_key_in_the_definition_is_refused(
    short: World, cinder: InMemory
) -> None:
    encrypted(short, cinder)
    assert "it is encrypted, and the definition has no <encryption>" in refused(short)


def test_an_encrypted_volume_whose_key_libvirt_has_moves(short: World, cinder: InMemory) -> None:
    encrypted(short, cinder, keys=[Secret("volume", "33333333-3333-4333-8333-333333333333")])
    before = short.everything
    assert short.driver("kvm2").destination_problems(short.domain) == []
    short.move()
    short.undo()
    assert short.everything == before


def test_a_key_that_the_destination_has_not_is_refused_by_the_name_of_its_disk(
    short: World, cinder: InMemory
) -> None:
    encrypted(short, cinder, keys=[Secret("volume", usage="the volume")])
    reason = "libvirt has no secret the volume; virsh secret-define makes one"
    local = NetworkVolumes(lambda _: reason, lambda _: [], FakeLocks(), "kvm2")
    kvm2 = CinderVolumes(cinder.service, local, short.connectors["kvm2"], "kvm2", "127.0.0.1")
    (volume,) = short.volumes
    (problem,) = kvm2.destination_problems(
        dataclasses.replace(short.domain, volumes=[dataclasses.replace(volume, hosts=[])])
    )
    assert problem == f"volume vdd (rbd:{volume.name}) cannot be reached from kvm2: {reason}"


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
