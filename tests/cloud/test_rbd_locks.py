"""Locks in a real Ceph, whose key libvirt keeps."""

from __future__ import annotations

import base64
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from hostler.drivers.volumes.rbd import RbdLocks
from hostler.errors import MigrationError
from hostler.objects import Secret, Volume
from lab.process import wait_until
from lab.services import Ceph
from tests.support.contracts.locks import *  # noqa: F403 - the tests are the module's

POOL = "volumes"
#: May write, and not break the lock of a client that has died: that is "osd blocklist" to Ceph's monitors.
USER = {"mon": "allow r", "osd": f"allow rwx pool={POOL}, allow class-read object_prefix rbd_children"}


@pytest.fixture(scope="module")
def real_ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    users = {"client.libvirt": USER}
    with Ceph(tmp_path_factory.mktemp("ceph"), users=users, watch_timeout_s=5) as made:
        made.add_pool(POOL)
        yield made


@dataclass
class Real:
    """A :class:`~tests.support.contracts.locks.Stand`: the client is qemu-io."""

    ceph: Ceph
    locks: RbdLocks
    volume: Volume
    clients: list[subprocess.Popen[str]] = field(default_factory=list)

    def hold(self) -> None:
        image = f"rbd:{self.volume.name}:id=admin:conf={self.ceph.conf}"
        command = ["qemu-io", "-f", "raw", image]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.clients.append(client)
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("write -P 1 0 4k\n")
        client.stdin.flush()
        assert any("wrote 4096" in client.stdout.readline() for _ in range(3))

    def let_go(self) -> None:
        self.clients.pop().communicate("quit\n", timeout=60)

    def die(self) -> None:
        client = self.clients.pop()
        client.kill()
        client.communicate()

    def forget(self) -> None:
        wait_until(lambda: not any(lock.watched for lock in self.locks.of(self.volume)), "Ceph to forget", 60)

    def type(self, command: str) -> None:
        """As an administrator, whom the keyring knows."""
        words = shlex.split(command)
        words[words.index("--id") + 1] = "admin"
        self.ceph.rbd(*words[1:])


@pytest.fixture
def stand(real_ceph: Ceph, request: pytest.FixtureRequest) -> Iterator[Real]:
    name = f"{POOL}/{request.node.name}"
    real_ceph.rbd("create", "--size", "16M", name)
    secret = Secret("ceph", usage="client.libvirt secret")
    volume = Volume("vda", "rbd", name, [f"127.0.0.1:{real_ceph.port}"], user="libvirt", secret=secret)
    key = base64.b64decode(real_ceph.key("client.libvirt"))
    made = Real(real_ceph, RbdLocks({secret: key}.get), volume)
    yield made
    while made.clients:
        made.die()


def test_a_wrong_key_and_an_image_that_is_not_there_are_refused_by_ceph(stand: Real) -> None:
    with pytest.raises(MigrationError, match=r"Ceph refuses: .*No such file"):
        stand.locks.of(
            Volume(
                "vda", "rbd", "volumes/none", stand.volume.hosts, user="libvirt", secret=stand.volume.secret
            )
        )
    wrong = RbdLocks(lambda _: base64.b64decode(stand.ceph.key("osd.0")))
    with pytest.raises(MigrationError, match=r"Ceph (refuses|does not answer)"):
        wrong.of(stand.volume)


def test_a_ceph_that_does_not_answer_is_given_up_in_time(stand: Real) -> None:
    impatient = RbdLocks(lambda _: None, timeout_s=1)
    volume = Volume("vda", "rbd", stand.volume.name, ["127.0.0.1:1"])
    with pytest.raises(MigrationError, match=r"Ceph (does not answer in 1 s|refuses)"):
        impatient.of(volume)
