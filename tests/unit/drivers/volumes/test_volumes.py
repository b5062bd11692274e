"""Network volumes: seen to answer before a guest is sent, seen let go of before it starts elsewhere."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostler.drivers.hypervisor.domain_xml import read_domain
from hostler.drivers.volumes import Volumes
from hostler.drivers.volumes.addresses import addresses
from hostler.drivers.volumes.fake import FakeVolumes
from hostler.drivers.volumes.holders import holders
from hostler.drivers.volumes.network import NetworkVolumes
from hostler.drivers.volumes.rbd import Lock
from hostler.drivers.volumes.rbd_fake import FakeLocks
from hostler.errors import Failed, Fenced, MigrationError, Park, VolumeUnreachable
from hostler.objects import Domain, Secret, Volume
from tests.support.world import DOMAIN, PORT_MAC


class Records:
    """A migration that nobody has passed over."""

    migration = "m1"

    def see_valid(self) -> None:
        pass


NOBODY: Any = Records()
SERVER = "44444444-4444-4444-8444-444444444444"
SECRET = "33333333-3333-4333-8333-333333333333"


@pytest.fixture
def server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def make_volumes(**changes: Any) -> NetworkVolumes:
    facts: dict[str, Any] = {
        "secret_problem": lambda secret: (
            "" if secret.uuid == SECRET else f"libvirt has no secret {secret.name}"
        ),
        "holders": lambda _: [],
        "locks": FakeLocks(),
        "host": "kvm2",
        "patience_s": 0.05,
    }
    return NetworkVolumes(**facts | changes)


def rbd(*servers: str, **facts: Any) -> Volume:
    return Volume(target="vda", protocol="rbd", name="rbd/vol1", hosts=list(servers), **facts)


def domain_of(volume: Volume) -> Domain:
    """A server that has it."""
    xml = DOMAIN.format(name="web1", uuid=SERVER, disks="", mac=PORT_MAC)
    return dataclasses.replace(read_domain(xml), volumes=[volume])


def test_one_monitor_that_answers_is_enough(server: str, closed: str) -> None:
    volumes = make_volumes()
    assert volumes.destination_problems(domain_of(rbd(closed, server))) == []
    volumes.connect(NOBODY, SERVER, rbd(closed, server))


def test_a_volume_that_nobody_serves_is_said_and_refused(closed: str) -> None:
    port = closed.rpartition(":")[2]
    sentence = (
        f"volume vda (rbd:rbd/vol1) cannot be reached from kvm2: 127.0.0.1 port {port}: Connection refused"
        f" (nc -zv -- 127.0.0.1 {port} asks again)"
    )
    assert make_volumes().destination_problems(domain_of(rbd(closed))) == [sentence]
    with pytest.raises(VolumeUnreachable) as failed:
        make_volumes().connect(NOBODY, SERVER, rbd(closed))
    assert str(failed.value) == sentence


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    # A full backlog answers nobody, as a firewall that drops does.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        many = [f"127.0.0.1:{address[1]}"] * 400  # one after the other they would outlast the test
        problems = make_volumes(timeout_s=1).destination_problems(domain_of(rbd(*many)))
        for connection in waiting:
            connection.close()
    assert "timed out" in problems[0]


def test_a_name_that_does_not_resolve_is_said() -> None:
    assert "a..b" in make_volumes().destination_problems(domain_of(rbd("a..b:1")))[0]


def test_a_secret_that_libvirt_lacks_is_said_with_what_makes_one(server: str) -> None:
    for facts in (
        {"secret_uuid": SECRET},
        {"secret": Secret("ceph", SECRET), "keys": [Secret("volume", SECRET)]},
    ):
        assert make_volumes().destination_problems(domain_of(rbd(server, **facts))) == []
    for facts in (
        {"secret_uuid": "another"},
        {"secret": Secret("ceph", SECRET), "keys": [Secret("volume", usage="another")]},
    ):
        (problem,) = make_volumes().destination_problems(domain_of(rbd(server, **facts)))
        assert (
            problem == "volume vda (rbd:rbd/vol1) cannot be reached from kvm2: libvirt has no secret another"
        )


def test_a_client_that_finds_its_own_way_is_not_second_guessed() -> None:
    assert make_volumes().destination_problems(domain_of(rbd())) == []


def test_a_socket_is_looked_for(tmp_path: Path) -> None:
    path = f"{tmp_path}/nbd.sock"
    volume = Volume("vda", "nbd", "vol1", [path])
    assert "No such file" in make_volumes().destination_problems(domain_of(volume))[0]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert make_volumes().destination_problems(domain_of(volume)) == []


@pytest.mark.parametrize(
    ("protocol", "server", "expected"),
    [
        ("nbd", "10.0.0.1", [("10.0.0.1", 10809)]),
        ("iscsi", "san", [("san", 3260)]),
        ("rbd", "mon1", [("mon1", 3300), ("mon1", 6789)]),
        ("rbd", "mon1:6790", [("mon1", 6790)]),
        ("nbd", "[fd00::1]:1", [("fd00::1", 1)]),
        ("nbd", "fd00::1", [("fd00::1", 10809)]),
        ("nfs", "filer", [("filer", 2049)]),
        ("tftp", "boot", []),
    ],
)
def test_where_servers_listen(protocol: str, server: str, expected: list[tuple[str, int]]) -> None:
    assert addresses(Volume("vda", protocol, "x", [server])) == expected


def test_a_volume_that_is_still_held_fails_and_names_the_process() -> None:
    volumes = make_volumes(holders=lambda _: [42, 43])
    with pytest.raises(
        MigrationError, match=r"vda \(rbd:rbd/vol1\) is still in use on kvm2 by process 42, 43"
    ):
        volumes.disconnect(NOBODY, SERVER, rbd())
    assert issubclass(MigrationError, Failed)


def test_what_is_only_read_may_be_held_by_others() -> None:
    volume = Volume("sda", "https", "debian.iso", ["mirror"])
    make_volumes(holders=lambda _: [42]).disconnect(NOBODY, SERVER, volume)


def test_a_volume_that_guests_share_may_be_held_and_locked_by_others(server: str) -> None:
    locks = FakeLocks()
    locks.held["rbd/vol1"] = [lock(watched=True)]
    volumes = make_volumes(holders=lambda _: [42], locks=locks)
    volumes.disconnect(NOBODY, SERVER, rbd(server, shared=True))
    volumes.connect(NOBODY, SERVER, rbd(server, shared=True))


def test_a_volume_that_was_let_go_is_let_go_again() -> None:
    volumes = make_volumes()
    volumes.disconnect(NOBODY, SERVER, rbd())
    volumes.disconnect(NOBODY, SERVER, rbd())


# -- who has it locked ------------------------------------------------------------------------------------


def lock(*, watched: bool) -> Lock:
    return Lock("auto 1", "client.4123", "10.0.0.1:0/7", watched)


class Fading(FakeLocks):
    """A lock that goes after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def of(self, volume: Volume) -> list[Lock]:
        self.looks -= 1
        return [lock(watched=True)] if self.looks > 0 else []


def test_a_lock_that_is_released_is_waited_for(server: str) -> None:
    locks = Fading(3)
    make_volumes(locks=locks, patience_s=0.2).connect(NOBODY, SERVER, rbd(server))
    assert locks.looks == 0


def test_a_volume_that_another_client_has_open_and_locked_fails_the_step(server: str) -> None:
    locks = FakeLocks()
    locks.held["rbd/vol1"] = [lock(watched=True)]
    volumes = make_volumes(locks=locks)
    assert volumes.destination_problems(domain_of(rbd(server))) == [], "its own guest has it still"
    with pytest.raises(
        VolumeUnreachable, match=r"locked by client.4123 at 10.0.0.1:0/7 \(auto 1\), which has it open"
    ):
        volumes.connect(NOBODY, SERVER, rbd(server))


@pytest.mark.parametrize("undoing", [False, True])
def test_a_lock_whose_client_is_gone_is_not_broken_and_parks_with_what_breaks_it(
    server: str, undoing: bool
) -> None:
    locks = FakeLocks()
    locks.held["rbd/vol1"] = [lock(watched=False)]
    with pytest.raises(Park, match=r"vda \(rbd:rbd/vol1\) is locked by client.4123 .* is gone") as parked:
        make_volumes(locks=locks).connect(NOBODY, SERVER, rbd(server), undoing=undoing)
    assert parked.value.commands == [
        "on kvm2: rbd lock rm rbd/vol1 client.4123; then: hostler migration retry m1"
    ]
    assert locks.held["rbd/vol1"]
    locks.held.clear()
    make_volumes(locks=locks).connect(NOBODY, SERVER, rbd(server), undoing=undoing)


def test_who_was_passed_over_waits_no_longer(server: str) -> None:
    def fenced() -> None:
        raise Fenced

    records: Any = Records()
    records.see_valid = fenced
    locks = FakeLocks()
    locks.held["rbd/vol1"] = [lock(watched=True)]
    with pytest.raises(Fenced):
        make_volumes(locks=locks, patience_s=60).connect(records, SERVER, rbd(server))


def test_locks_that_cannot_be_seen_are_a_problem_before_anything_is_touched(server: str) -> None:
    locks = FakeLocks()
    locks.fail_next("of", MigrationError("Ceph refuses: permission denied"))
    (problem,) = make_volumes(locks=locks).destination_problems(domain_of(rbd(server)))
    assert problem == (
        "volume vda (rbd:rbd/vol1) cannot be reached from kvm2: Ceph refuses: permission denied"
    )


# -- who holds a volume -----------------------------------------------------------------------------------

NBD = {"driver": "nbd", "server": {"type": "inet", "host": "10.0.0.1", "port": "10809"}, "export": "vol1"}


def process(proc: Path, pid: int, *nodes: dict[str, Any]) -> Path:
    words = ["qemu-system-x86_64", "-uuid", "u"]
    for node in nodes:
        words += ["-blockdev", json.dumps(node)]
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes("\0".join(words).encode() + b"\0")
    return proc


@pytest.mark.parametrize(
    ("volume", "node"),
    [
        (Volume("vda", "rbd", "pool/vol1", ["mon1"]), {"driver": "rbd", "pool": "pool", "image": "vol1"}),
        (Volume("vda", "nbd", "vol1", ["10.0.0.1"]), NBD),
        (Volume("vda", "nbd", "vol1", ["10.0.0.1:10809"]), NBD),
        (
            Volume("vda", "nbd", "vol1", ["/s"]),
            {"driver": "nbd", "server": {"type": "unix", "path": "/s"}, "export": "vol1"},
        ),
        (
            Volume("vda", "iscsi", "iqn.2026-01.test:vol1/1", ["san"]),
            {"driver": "iscsi", "portal": "san:3260", "target": "iqn.2026-01.test:vol1", "lun": 1},
        ),
        (
            Volume("vda", "iscsi", "iqn.2026-01.test:vol1", ["san"]),
            {"driver": "iscsi", "portal": "san:3260", "target": "iqn.2026-01.test:vol1", "lun": 0},
        ),
        (Volume("vda", "gluster", "vol/a", ["g"]), {"driver": "gluster", "volume": "vol", "path": "a"}),
    ],
)
def test_a_process_that_holds_the_volume_is_found(
    tmp_path: Path, volume: Volume, node: dict[str, Any]
) -> None:
    proc = process(tmp_path, 42, node)
    process(proc, 43, {"driver": "file", "filename": "/x"}, {"driver": "raw", "file": node})
    process(proc, 44, {"driver": "file", "filename": "/x"})
    assert holders(volume, proc) == [42, 43]
    assert holders(dataclasses.replace(volume, name="another"), proc) == []


def test_an_export_of_that_name_on_another_server_is_another_volume(tmp_path: Path) -> None:
    assert holders(Volume("vda", "nbd", "vol1", ["10.0.0.2"]), process(tmp_path, 42, NBD)) == []


def test_what_is_no_block_device_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"qemu\0-blockdev\0{broken\0-blockdev")
    (tmp_path / "8").mkdir()
    (tmp_path / "self").mkdir()
    assert holders(rbd(), tmp_path) == []
    assert holders(rbd()) == []


def test_the_fake_fails_on_demand() -> None:
    fake: Volumes = FakeVolumes("kvm2")
    assert isinstance(fake, FakeVolumes)
    volume = rbd()
    fake.connect(NOBODY, SERVER, volume)
    fake.connect(NOBODY, SERVER, volume)
    assert fake.connected == {"rbd/vol1"}
    fake.fail_next("disconnect", MigrationError("held"))
    with pytest.raises(MigrationError):
        fake.disconnect(NOBODY, SERVER, volume)
    fake.disconnect(NOBODY, SERVER, volume)
    fake.unreachable["rbd/vol1"] = "no route"
    assert fake.destination_problems(domain_of(volume)) == [
        "volume vda cannot be reached from kvm2: no route"
    ]
    with pytest.raises(VolumeUnreachable, match="no route"):
        fake.connect(NOBODY, SERVER, volume)
    assert fake.connected == set()
