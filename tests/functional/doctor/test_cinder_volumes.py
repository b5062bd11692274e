"""An attachment of Cinder's that nothing uses is named, unless a migration needs it still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostler.drivers.volumes.cinder_fake import FakeVolumeService
from hostler.errors import ServerUnreachable
from tests.functional.doctor.conftest import Ward
from tests.functional.doctor.test_neutron_ports import told
from tests.functional.flows.test_cinder_volumes import give_volume
from tests.support.world import World


@pytest.fixture
def cinder(world: World) -> FakeVolumeService:
    return give_volume(world)[1]


@pytest.fixture
def ward(world: World, cinder: FakeVolumeService) -> Iterator[Ward]:
    made = Ward(world)
    yield made
    made.end()


def test_a_stray_attachment_is_named_with_its_server_and_left(ward: Ward, cinder: FakeVolumeService) -> None:
    assert told(ward) == []
    (stored,) = cinder.volumes.values()
    volume, server = stored.volume.id, stored.volume.attachments[0].server
    cinder.reserve(volume, server or "", None)
    empty = stored.volume.attachments[-1].id
    sentence = (
        f"kvm1: attachment {empty} of volume {volume} is empty, and server web1 is here, with no migration under way;"
        f" openstack --os-volume-api-version 3.27 volume attachment delete {empty}"
    )
    assert told(ward) == [sentence]
    ward.fix()
    assert told(ward) == [sentence]
    cinder.drop(empty)
    assert told(ward) == []


def test_a_cinder_that_is_away_is_said(ward: Ward, cinder: FakeVolumeService) -> None:
    away = ServerUnreachable(what="Cinder", where="cloud lab", reason="it is away")
    cinder.fail_next("attachments_of", away, times=20)
    (sentence,) = told(ward)
    assert sentence.startswith("kvm1: the volumes of servers here were not looked at: Cinder does not answer")
