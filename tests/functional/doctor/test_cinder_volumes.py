"""An attachment of Cinder's that nothing uses is named, unless a migration needs it still."""

from __future__ import annotations

import pytest

from hostler.drivers.volumes.cinder_fake import FakeVolumeService
from hostler.errors import ServerUnreachable
from tests.functional.doctor.conftest import Ward
from tests.functional.flows.test_cinder_volumes import give_volume
from tests.support.world import World


@pytest.fixture
def service(world: World) -> FakeVolumeService:
    return give_volume(world)[1]


def test_a_stray_attachment_is_named_with_its_server_and_left(ward: Ward, service: FakeVolumeService) -> None:
    assert ward.told() == []
    (stored,) = service.volumes.values()
    volume, server = stored.volume.id, stored.volume.attachments[0].server
    service.reserve(volume, server or "", None)
    empty = stored.volume.attachments[-1].id
    sentence = (
        f"kvm1: attachment {empty} of volume {volume} is empty, and server web1 is here, with no migration under way;"
        f" openstack --os-volume-api-version 3.27 volume attachment delete {empty}"
    )
    assert ward.told() == [sentence]
    ward.fix()
    assert ward.told() == [sentence]
    service.drop(empty)
    assert ward.told() == []


def test_a_cinder_that_is_away_is_said(ward: Ward, service: FakeVolumeService) -> None:
    away = ServerUnreachable(what="Cinder", where="cloud lab", reason="it is away")
    service.fail_next("attachments_of", away, times=20)
    (sentence,) = ward.told()
    assert sentence.startswith("kvm1: the volumes of servers here were not looked at: Cinder does not answer")
