"""Volumes of Cinder, before and after each step attached as they should be, and after its undo as before.

A module that takes these tests gives the fixture *cinder*.
"""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from hostler.drivers.hypervisor.domain_xml import read_domain
from hostler.drivers.volumes.attachments import Attachment, VolumeService
from hostler.drivers.volumes.brick_fake import FakeConnector
from hostler.drivers.volumes.cinder import CinderVolumes
from hostler.drivers.volumes.cinder_rules import CLIENT
from hostler.drivers.volumes.fake import FakeVolumes
from hostler.errors import (
    CloudServiceFailed,
    Fenced,
    ForeignObject,
    HostlerError,
    MigrationError,
    ServerUnreachable,
    VolumeNotMovable,
    VolumeUnreachable,
)
from hostler.objects import Disk, Domain, Volume
from hostler.records import fence
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from tests.records_made import make_host, make_instance, make_leg, make_migration
from tests.support.mortal import Killed, Mortal
from tests.support.world import DOMAIN, PORT_MAC

#: What changes Cinder, as :class:`VolumeService` calls it.
CHANGES = ("reserve", "connect", "complete", "drop")


class Stand(Protocol):
    """A Cinder."""

    service: VolumeService

    def add_volume(self, protocol: str = "rbd", *, shared: bool = False) -> str:
        """Make a volume; *shared*: for several servers at once. Return its uuid."""

    def attach(self, volume: str, server: str, host: str, device: str) -> str:
        """Attach it, as Nova does; return the attachment's uuid."""

    def open_to(self, volume: str) -> list[str]:
        """Return the hosts that its storage has opened it to."""

    def refuse(self, *hosts: str) -> None:
        """Let the storage open nothing to these hosts."""

    def break_volume(self, volume: str) -> None:
        """Let its status be ``error``."""

    def fail_next(self, call: str, times: int) -> None:
        """Let Cinder answer that many calls with what may pass."""

    def lose_next_answer(self, call: str) -> None:
        """Let the next such change be made, and its answer never come."""


@dataclass
class World:
    """A server on kvm1 with two volumes that is about to move to kvm2."""

    stand: Stand
    database: Database
    instance: str
    records: FencedRecords
    volumes: list[Volume]
    connectors: dict[str, FakeConnector]

    def driver(self, host: str, service: Any = None) -> CinderVolumes:
        service, connector = service or self.stand.service, self.connectors[host]
        return CinderVolumes(service, FakeVolumes(host), connector, host, "127.0.0.1")

    @property
    def domain(self) -> Domain:
        """The server's, as libvirt has it on either host."""
        xml = DOMAIN.format(name="web1", uuid=self.instance, disks="", mac=PORT_MAC)
        return dataclasses.replace(read_domain(xml), volumes=self.volumes)

    @property
    def everything(self) -> list[tuple[Any, ...]]:
        """Of each volume all that Cinder and its storage say, but for the attachments' uuids."""
        return [self._all_of(volume) for volume in self.volumes]

    @property
    def places(self) -> list[tuple[str, list[tuple[str, str | None]], list[str]]]:
        """Of each volume its status, its attachments' and their hosts, and where its storage is open."""
        return [
            (status, [(one.status, one.host) for one in attachments], hosts)
            for status, attachments, hosts in self.everything
        ]

    @property
    def mine(self) -> list[Attachment]:
        """How the server has its first volume."""
        found = self.stand.service.attachments_of(self.instance)
        return [one for one in found if one.volume == self.volumes[0].serial]

    def _all_of(self, volume: Volume) -> tuple[Any, ...]:
        found = self.stand.service.volume(volume.serial or "")
        assert found is not None
        attachments = sorted(map(_anonymous, found.attachments), key=repr)
        return found.status, attachments, self.stand.open_to(found.id)

    def reserve(self, service: Any = None) -> None:
        for volume in self.volumes:
            self.driver("kvm2", service).reserve(self.records, self.instance, volume)

    def let_go(self, service: Any = None) -> None:
        for volume in self.volumes:
            self.driver("kvm1", service).disconnect(self.records, self.instance, volume)

    def take(self, service: Any = None) -> None:
        for volume in self.volumes:
            self.driver("kvm2", service).connect(self.records, self.instance, volume)

    def move(self, service: Any = None) -> None:
        self.reserve(service)
        self.let_go(service)
        self.take(service)

    def give_back(self, service: Any = None) -> None:
        """Undo the last step; on the way back behind the hand-over it comes first, too."""
        for volume in reversed(self.volumes):
            self.driver("kvm2", service).disconnect(self.records, self.instance, volume, undoing=True)

    def take_back(self, service: Any = None) -> None:
        for volume in reversed(self.volumes):
            self.driver("kvm1", service).connect(self.records, self.instance, volume, undoing=True)

    def release(self, service: Any = None) -> None:
        for volume in reversed(self.volumes):
            self.driver("kvm2", service).release(self.records, self.instance, volume)

    def undo(self, service: Any = None) -> None:
        """Undo all of it, whatever was done."""
        self.give_back(service)
        self.take_back(service)
        self.release(service)


def _anonymous(one: Attachment) -> Attachment:
    connection = {key: value for key, value in one.connection.items() if key != "attachment_id"}
    return dataclasses.replace(one, id="", connection=connection)


def volume_of(uuid: str, letter: str, protocol: str = "rbd") -> Volume:
    """The disk of a definition that opens it as Cinder says of kvm1; ``local``: the host has connected it."""
    if protocol == "local":
        return Volume.of(Disk(f"vd{letter}", f"/dev/disk/kvm1/{uuid}", "raw", block=True, serial=uuid))
    name = f"volumes/volume-{uuid}" if protocol != "iscsi" else f"iqn.2010-10.org.openstack:volume-{uuid}/1"
    hosts = ["10.0.0.1:6789"] if protocol != "iscsi" else ["10.0.0.2:3260"]
    return Volume(f"vd{letter}", protocol, name, hosts, serial=uuid)


def add(world: World, protocol: str = "rbd", host: str = "kvm1") -> Volume:
    """Give the server one more volume, the only one that is moved."""
    made = world.stand.add_volume(protocol)
    world.stand.attach(made, world.instance, host, "/dev/vdd")
    world.volumes = [volume_of(made, "d", protocol)]
    return world.volumes[0]


def make_world(cinder: Stand, database: Database, letters: str) -> World:
    """Attach its volumes on kvm1, as Nova or an operator would."""
    with database.transaction() as session:
        for host in ("kvm1", "kvm2"):
            make_host(session, host)
        instance = make_instance(session, "kvm1")
    volumes = [volume_of(cinder.add_volume(), letter) for letter in letters]
    for volume in volumes:
        cinder.attach(volume.serial or "", instance, "kvm1", f"/dev/{volume.target}")
    connectors = {host: FakeConnector(host) for host in ("kvm1", "kvm2")}
    return World(cinder, database, instance, make_leg(database, instance), volumes, connectors)


@pytest.fixture
def world(cinder: Stand, database: Database) -> World:
    """With two volumes."""
    return make_world(cinder, database, "bc")


@pytest.fixture
def short(cinder: Stand, database: Database) -> World:
    """With one, for what is tried at each change."""
    return make_world(cinder, database, "b")


HOME = ("in-use", [("attached", "kvm1")], ["kvm1"])
BOTH = ("in-use", [("attached", "kvm1"), ("reserved", None)], ["kvm1"])
BETWEEN = ("reserved", [("reserved", None)], list[str]())
THERE = ("in-use", [("attached", "kvm2")], ["kvm2"])


def test_the_place_is_kept_from_the_first_step_to_the_last(world: World) -> None:
    assert world.places == [HOME] * 2
    for step, place in ((world.reserve, BOTH), (world.let_go, BETWEEN), (world.take, THERE)):
        for _ in range(2):
            step()
            assert world.places == [place] * 2


@pytest.mark.parametrize("far", ["reserve", "let_go", "take"])
def test_what_is_undone_is_as_it_was_but_for_the_attachments_names(world: World, far: str) -> None:
    before = world.everything
    for step in ("reserve", "let_go", "take"):
        getattr(world, step)()
        if step == far:
            break
    assert world.everything != before
    for _ in range(2):
        world.undo()
        assert world.everything == before


def test_an_undo_before_the_source_has_let_go_leaves_its_very_attachment(short: World) -> None:
    before = short.mine
    short.reserve()
    short.undo()
    assert short.mine == before


def test_a_server_that_goes_back_has_its_volumes_as_they_were(world: World) -> None:
    before = world.everything
    world.move()
    world.give_back()
    assert world.places == [BETWEEN] * 2
    world.take_back()
    assert world.everything == before


def test_a_way_back_that_fails_leaves_the_volumes_where_they_were_moved_to(short: World) -> None:
    short.move()
    before = short.everything
    short.give_back()
    (volume,) = short.volumes
    short.driver("kvm2").connect(short.records, short.instance, volume, undoing=True)
    assert short.everything == before


def test_a_flow_that_reserves_nothing_moves_its_volumes_and_brings_them_back(short: World) -> None:
    """As versions before the step that reserves have posted them."""
    before = short.everything
    short.let_go()
    assert short.places == [BETWEEN]
    short.take()
    assert short.places == [THERE]
    short.give_back()
    short.take_back()
    assert short.everything == before


def test_an_undo_of_what_was_never_begun_changes_nothing(world: World) -> None:
    before = world.everything
    world.undo()
    assert world.everything == before


def test_only_what_was_reserved_is_undone(world: World) -> None:
    before = world.everything
    world.driver("kvm2").reserve(world.records, world.instance, world.volumes[0])
    other = world.volumes[1].serial or ""
    world.stand.service.reserve(other, world.instance, None)
    world.undo()
    assert world.places == [HOME, BOTH]
    (empty,) = [one for one in world.stand.service.attachments_of(world.instance) if one.empty]
    world.stand.service.drop(empty.id)
    assert world.everything == before


def test_nobody_gets_the_volume_while_it_has_no_host(short: World) -> None:
    short.reserve()
    short.let_go()
    with pytest.raises(HostlerError, match="Cinder refuses: 400"):
        short.stand.service.reserve(short.volumes[0].serial or "", str(uuid.uuid4()), None)
    assert short.places == [BETWEEN]


def test_a_destination_that_the_storage_does_not_know_fails_the_step(short: World) -> None:
    before = short.everything
    short.stand.refuse("kvm2")
    short.reserve()
    short.let_go()
    with pytest.raises(CloudServiceFailed, match="host kvm2 is refused"):
        short.take()
    short.undo()
    assert short.everything == before


def test_the_source_takes_over_what_a_dead_destination_has(short: World) -> None:
    before = short.everything
    short.move()
    short.take_back()
    assert short.everything == before
    short.give_back()  # the destination is there again, and owes that
    short.release()
    assert short.everything == before


def test_a_target_that_differs_by_host_is_told_to_the_definition(world: World) -> None:
    volume = add(world, "iscsi")
    before = world.everything
    world.move()
    there = world.driver("kvm2").mapping(world.records, [volume])
    assert there == {"vdd": dataclasses.replace(volume, name=f"{volume.name[:-1]}2")}
    assert world.driver("kvm1").mapping(world.records, [volume]) == {}
    world.undo()
    assert world.everything == before
    assert world.driver("kvm1").mapping(world.records, [volume]) == {}


def test_a_server_that_is_resized_where_it_is_keeps_its_attachment(short: World) -> None:
    before, (volume,), kvm1 = short.everything, short.volumes, short.driver("kvm1")
    with short.database.transaction() as session:
        number = make_migration(session, short.instance, dest_compute="kvm1")
        fence.raise_fence(session, number, 1)
    records = FencedRecords(short.database, number, 1, "kvm1")
    kvm1.disconnect(records, short.instance, volume)
    kvm1.connect(records, short.instance, volume)
    assert short.everything == before


def test_a_volume_that_is_no_cinders_is_left_to_qemu(short: World) -> None:
    plain = Volume("vdz", "nbd", "data", ["10.0.0.9:10809"], serial="0001")
    kvm2 = short.driver("kvm2")
    kvm2.reserve(short.records, short.instance, plain)
    kvm2.connect(short.records, short.instance, plain)
    assert short.driver("kvm2").mapping(short.records, [plain]) == {}
    kvm2.disconnect(short.records, short.instance, plain)


# -- refused ----------------------------------------------------------------------------------------------


def refused(world: World) -> str:
    """Why a dry run and the step that reserves refuse; nothing is changed."""
    before = [volume.serial and world.stand.service.volume(volume.serial) for volume in world.volumes]
    with pytest.raises(VolumeNotMovable) as told:
        world.reserve()
    assert told.value.hint.startswith("openstack ")
    found = world.driver("kvm2").destination_problems(world.domain)
    assert (str(told.value), told.value.hint) in [(str(one), one.hint) for one in found]
    world.undo()
    after = [volume.serial and world.stand.service.volume(volume.serial) for volume in world.volumes]
    assert after == before
    return str(told.value)


def test_volumes_that_can_move_are_no_problem_before_the_move_and_behind_it(world: World) -> None:
    assert world.driver("kvm2").destination_problems(world.domain) == []
    world.move()
    assert world.driver("kvm1").destination_problems(world.domain) == []


def test_a_volume_that_does_not_exist_is_refused(short: World) -> None:
    gone = str(uuid.uuid4())
    short.volumes = [volume_of(gone, "d")]
    assert refused(short) == f"volume {gone} (vdd) cannot be moved to kvm2: Cinder has no such volume"


def test_a_volume_of_another_server_is_refused(short: World) -> None:
    made, other = short.stand.add_volume(), str(uuid.uuid4())
    short.stand.attach(made, other, "kvm1", "/dev/vdb")
    short.volumes = [volume_of(made, "d")]
    assert f"it is attached to {other}" in refused(short)


def test_a_volume_that_is_nobodys_is_refused(short: World) -> None:
    short.volumes = [volume_of(short.stand.add_volume(), "d")]
    assert "its status is 'available'; 0 attachments are the server's" in refused(short)


def test_a_volume_in_error_is_refused(short: World) -> None:
    short.stand.break_volume(short.volumes[0].serial or "")
    assert "its status is 'error'" in refused(short)


def test_a_volume_that_somebody_moves_already_is_refused(short: World) -> None:
    short.stand.service.reserve(short.volumes[0].serial or "", short.instance, None)
    assert "2 attachments are the server's" in refused(short)


def test_a_volume_that_the_host_would_have_to_connect_is_refused_by_its_kind(short: World) -> None:
    add(short, "fibre_channel")
    assert "lets QEMU open it by fibre_channel, and Cinder connects it to hosts by fibre_channel" in refused(
        short
    )


def test_a_volume_that_is_attached_on_another_host_than_the_server_is_on_is_refused(short: World) -> None:
    add(short, host="kvm9")
    with pytest.raises(VolumeNotMovable, match="it is attached on kvm9, and the server is on kvm1"):
        short.reserve()
    short.undo()


def test_a_definition_that_opens_something_else_is_refused(short: World) -> None:
    short.volumes = [dataclasses.replace(short.volumes[0], name="volumes/another")]
    with pytest.raises(
        VolumeNotMovable, match="the definition opens volumes/another, and Cinder says"
    ) as told:
        short.reserve()
    assert told.value.hint.startswith(f"{CLIENT} show ")


def test_a_disk_that_the_host_has_connected_is_refused_where_its_own_driver_has_not_told(
    short: World,
) -> None:
    serial = short.volumes[0].serial
    disk = Disk("vdb", "/dev/sdb", "raw", block=True, serial=serial)
    domain = dataclasses.replace(short.domain, volumes=[], disks=[disk])
    (problem,) = short.driver("kvm2").destination_problems(domain)
    assert problem == (
        f"volume {serial} (vdb) cannot be moved to kvm2: the host has connected it, and its own driver of volumes does"
        " not know"
    )
    unknown = dataclasses.replace(disk, serial=str(uuid.uuid4()))
    assert short.driver("kvm2").destination_problems(dataclasses.replace(domain, disks=[unknown])) == []


# -- what the host connects -------------------------------------------------------------------------------


@pytest.fixture
def connected(short: World) -> World:
    """With one volume that kvm1 has connected."""
    volume = add(short, "local")
    short.connectors["kvm1"].connect(volume, {})
    return short


def on(world: World) -> list[str]:
    """The hosts that have the volume connected."""
    return [host for host, one in world.connectors.items() if one.connected]


def test_a_disk_of_the_host_that_is_a_volume_of_the_server_is_known_by_its_serial(connected: World) -> None:
    (volume,) = connected.volumes
    made = connected.stand.add_volume()
    connected.stand.attach(made, str(uuid.uuid4()), "kvm1", "/dev/vdx")
    mine = Disk("vdd", volume.path or "", "raw", block=True, serial=volume.serial)
    plain = [
        Disk("vda", "/i/a", "qcow2"),
        Disk("vdb", "/dev/x", "raw", block=True, serial="0001"),
        Disk("vdc", "/dev/y", "raw", block=True, serial=str(uuid.uuid4())),
        Disk("vde", "/dev/z", "raw", block=True, serial=made),
    ]
    domain = dataclasses.replace(connected.domain, volumes=[], disks=[*plain, mine])
    known = connected.driver("kvm1").recognise(domain)
    assert (known.volumes, known.disks) == ([volume], plain)
    assert connected.driver("kvm2").destination_problems(known) == []


def test_a_volume_is_connected_before_it_is_used_and_disconnected_before_its_attachment_goes(
    connected: World,
) -> None:
    (volume,) = connected.volumes
    before, seen = connected.everything, list[tuple[Any, ...]]()
    for host, one in connected.connectors.items():
        connect, disconnect = one.connect, one.disconnect
        one.connect = lambda *given, host=host, call=connect: (  # type: ignore[method-assign]
            seen.append((host, True, connected.places)),
            call(*given),
        )[1]
        one.disconnect = lambda *given, host=host, call=disconnect: (  # type: ignore[method-assign]
            seen.append((host, False, connected.places)),
            call(*given),
        )[1]
    for step, hosts in ((connected.reserve, ["kvm1"]), (connected.let_go, []), (connected.take, ["kvm2"])):
        for _ in range(2):
            step()
            assert on(connected) == hosts
    assert connected.places == [THERE]
    opening = ("in-use", [("attaching", None)], ["kvm2"])
    assert seen[0] == ("kvm1", False, [BOTH])
    assert seen[1][:2] == ("kvm2", True)
    assert [place[2] for place in seen[1][2]] == [opening[2]], "Cinder had opened it to the host by then"
    there = connected.driver("kvm2").mapping(connected.records, [volume])
    path = f"/dev/disk/kvm2/{volume.serial}"
    assert there == {"vdd": dataclasses.replace(volume, name=path, path=path)}
    for _ in range(2):
        connected.undo()
        assert connected.everything == before
        assert on(connected) == ["kvm1"]
    assert connected.driver("kvm1").mapping(connected.records, [volume]) == {}


def test_what_cinder_is_told_of_a_host_is_what_its_connector_says(connected: World) -> None:
    seen = list[dict[str, Any]]()

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return getattr(connected.stand.service, name)

        def connect(self, attachment: str, connector: dict[str, Any]) -> None:
            seen.append(connector)
            connected.stand.service.connect(attachment, connector)

    connected.move(Listening())
    own = {"host": "kvm2", "mountpoint": "/dev/vdd"}
    assert seen == [{**connected.connectors["kvm2"].properties(), **own}]


def test_nothing_that_is_a_secret_is_written_down(connected: World) -> None:
    connected.move()
    entries = connected.records.journal("cinder").all()
    assert [entry.data["connection"]["driver_volume_type"] for entry in entries.values()] == ["local"] * 2
    assert "hush" not in repr([entry.data for entry in entries.values()])


def test_a_volume_that_cannot_be_flushed_stays_connected_and_attached(connected: World) -> None:
    (volume,) = connected.volumes
    before = connected.everything
    connected.reserve()
    connected.connectors["kvm1"].busy.add(volume.serial or "")
    with pytest.raises(MigrationError, match="is still in use on kvm1"):
        connected.let_go()
    assert connected.places == [BOTH]
    connected.undo()
    assert connected.everything == before
    assert on(connected) == ["kvm1"]


def test_a_host_that_cannot_connect_the_kind_refuses_it_before_the_guest_is_touched(connected: World) -> None:
    connected.connectors["kvm2"].missing = "os-brick is not installed: pip install 'hostler[openstack]'"
    assert "cannot be moved to kvm2: os-brick is not installed" in refused(connected)


def test_a_host_that_fails_to_connect_it_fails_the_step_and_gives_it_back(connected: World) -> None:
    before = connected.everything
    connected.reserve()
    connected.let_go()
    connected.connectors["kvm2"].missing = "no route to host"
    with pytest.raises(VolumeUnreachable, match="from kvm2: no route to host"):
        connected.take()
    connected.undo()
    assert connected.everything == before
    assert on(connected) == ["kvm1"]


@pytest.mark.parametrize("call", ["connect", "connect done", "disconnect", "disconnect done"])
def test_a_worker_that_dies_while_a_host_connects_or_disconnects_is_carried_on_and_undone(
    connected: World, call: str
) -> None:
    before = connected.everything
    for host in ("kvm1", "kvm2"):
        for act in (connected.move, connected.undo):
            connected.connectors[host].fail_next(call, Killed())
            with suppress(Killed):
                act()
            connected.connectors[host].forgive()
            connected.move()
            assert (connected.places, on(connected)) == ([THERE], ["kvm2"])
            connected.undo()
            assert (connected.everything, on(connected)) == (before, ["kvm1"])


def test_what_a_dead_destination_has_connected_it_disconnects_when_it_is_back(connected: World) -> None:
    before = connected.everything
    connected.move()
    connected.take_back()
    assert sorted(on(connected)) == ["kvm1", "kvm2"]
    connected.give_back()
    connected.release()
    assert (connected.everything, on(connected)) == (before, ["kvm1"])


# -- for several servers ----------------------------------------------------------------------------------


def share(world: World, host: str, protocol: str = "rbd") -> str:
    """Let the server share its only volume with another one, which has it on *host*; return that one's attachment."""
    made = world.stand.add_volume(protocol, shared=True)
    world.stand.attach(made, world.instance, "kvm1", "/dev/vdd")
    world.volumes = [dataclasses.replace(volume_of(made, "d", protocol), shared=True)]
    return world.stand.attach(made, str(uuid.uuid4()), host, "/dev/vdb")


def other(world: World, attachment: str) -> Attachment:
    found = world.stand.service.volume(world.volumes[0].serial or "")
    assert found is not None
    return next(one for one in found.attachments if one.id == attachment)


@pytest.mark.parametrize("host", ["kvm1", "kvm2", "kvm3"])
def test_a_volume_of_several_servers_moves_with_one_and_stays_with_the_others(
    short: World, host: str
) -> None:
    theirs = share(short, host)
    before, as_it_was = short.everything, other(short, theirs)
    assert short.driver("kvm2").destination_problems(short.domain) == []
    for _ in range(2):
        for step in (short.reserve, short.let_go, short.take):
            step()
            assert other(short, theirs) == as_it_was
            assert host in short.stand.open_to(short.volumes[0].serial or "")
        assert [one.status for one in short.mine] == ["attached"]
        assert sorted({"kvm2", host}) == short.stand.open_to(short.volumes[0].serial or "")
        short.undo()
        assert short.everything == before
        assert other(short, theirs) == as_it_was


@pytest.mark.parametrize(("host", "stays"), [("kvm1", True), ("kvm3", False)])
def test_a_device_that_another_server_has_on_that_host_stays_connected(
    short: World, host: str, stays: bool
) -> None:
    share(short, host, "local")
    short.connectors["kvm1"].connect(short.volumes[0], {})
    before = short.everything
    short.move()
    assert on(short) == (["kvm1", "kvm2"] if stays else ["kvm2"])
    short.undo()
    assert (short.everything, on(short)) == (before, ["kvm1"])


# -- others, the dead and the late ------------------------------------------------------------------------


def test_the_last_attachment_of_a_server_is_never_dropped(short: World) -> None:
    short.reserve()
    home = next(one for one in short.mine if not one.empty)
    short.stand.service.drop(home.id)
    with pytest.raises(ForeignObject, match="the last that the server has"):
        short.release()
    assert short.places == [BETWEEN]


def test_an_attachment_that_others_made_meanwhile_is_left_and_fails_the_step(short: World) -> None:
    short.reserve()
    short.let_go()
    (empty,) = short.mine
    short.stand.service.connect(empty.id, {"host": "kvm9", "mountpoint": "/dev/vdb"})
    short.stand.service.complete(empty.id)
    with pytest.raises(VolumeUnreachable, match=rf"attachment {empty.id} \(attached\) is in the way"):
        short.take()
    with pytest.raises(VolumeUnreachable, match="is in the way"):
        short.undo()
    assert ("attached", "kvm9") in short.places[0][1]


@pytest.mark.parametrize("call", CHANGES)
def test_a_change_whose_answer_was_lost_is_made_once(short: World, call: str) -> None:
    before = short.everything
    short.stand.lose_next_answer(call)
    with pytest.raises(CloudServiceFailed):
        short.move()
    short.move()
    assert short.places == [THERE]
    short.undo()
    assert short.everything == before


@pytest.mark.parametrize("call", CHANGES)
def test_an_undo_whose_answer_was_lost_is_undone_once(short: World, call: str) -> None:
    before = short.everything
    short.move()
    short.stand.lose_next_answer(call)
    with pytest.raises(ServerUnreachable):
        short.undo()
    short.undo()
    assert short.everything == before


@pytest.mark.parametrize("call", ["volume", *CHANGES])
def test_a_cinder_that_is_away_fails_the_step_and_postpones_the_undo(short: World, call: str) -> None:
    before = short.everything
    short.stand.fail_next(call, 1)
    with pytest.raises(CloudServiceFailed, match="Cinder failed"):
        short.move()
    short.undo()
    assert short.everything == before
    if call != "volume":
        short.move()
        short.stand.fail_next(call, 1)
        with pytest.raises(ServerUnreachable):
            short.undo()
        short.undo()
        assert short.everything == before


def mortal_worker(world: World, left: int, *, done: bool) -> Mortal:
    """Return the service of a worker that dies at a change; after each the server still has its volumes."""

    def see_kept() -> None:
        found = world.stand.service.attachments_of(world.instance)
        for volume in world.volumes:
            mine = [one for one in found if one.volume == volume.serial]
            assert mine, "the volume is anybody's"
            assert len([one for one in mine if one.connection]) <= 1, "two hosts have it"

    return Mortal(world.stand.service, CHANGES, left, done=done, see=see_kept)


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
def test_a_worker_that_dies_at_any_change_is_carried_on_and_undone(short: World, done: bool) -> None:
    before = short.everything
    for number in itertools.count(1):
        mortal = mortal_worker(short, number, done=done)
        with suppress(Killed):
            short.move(mortal)
        if number % 2:
            short.move()
            assert short.places == [THERE], f"change {number}"
        if mortal.left > 0:
            break
        short.undo()
        assert short.everything == before, f"change {number}"
    assert number == 5, "an empty one is made, the source's is dropped, the other connected and complete"
    short.move()
    for number in itertools.count(1):
        mortal = mortal_worker(short, number, done=done)
        with suppress(Killed):
            short.undo(mortal)
        short.undo()
        assert short.everything == before, f"change {number}"
        if mortal.left > 0:
            break
        short.move()
    assert number == 5, "the same from the other end"


@pytest.mark.parametrize("change", [2, 4, 6])
def test_a_worker_that_dies_between_two_volumes_is_undone(world: World, change: int) -> None:
    before, mortal = world.everything, mortal_worker(world, change, done=False)
    with pytest.raises(Killed):
        world.move(mortal)
    world.undo()
    assert world.everything == before


def test_a_leg_that_was_passed_over_changes_nothing(short: World) -> None:
    short.reserve()
    before = short.everything
    with short.database.transaction() as session:
        fence.raise_fence(session, short.records.migration, 2)
    for step in (short.let_go, short.release):
        with pytest.raises(Fenced):
            step()
    assert short.everything == before


# -- astray -----------------------------------------------------------------------------------------------


def test_an_attachment_that_nothing_uses_is_named_with_what_drops_it(short: World) -> None:
    assert short.driver("kvm1").astray(short.domain, "kvm1") == []
    serial = short.volumes[0].serial or ""
    short.stand.service.reserve(serial, short.instance, None)
    (empty,) = [one for one in short.mine if one.empty]
    (found,) = short.driver("kvm1").astray(short.domain, "kvm1")
    assert found.text == f"attachment {empty.id} of volume {serial} is empty"
    assert found.command == f"{CLIENT} delete {empty.id}"


def test_a_volume_that_is_attached_elsewhere_or_is_no_disk_is_named(world: World) -> None:
    first, second = world.volumes
    found = world.driver("kvm2").astray(dataclasses.replace(world.domain, volumes=[first]), "kvm2")
    assert sorted(one.text for one in found) == sorted(
        [
            f"volume {first.serial} (vdb) is attached on kvm1",
            f"volume {second.serial} is attached, and no disk of the definition has that serial",
        ]
    )
