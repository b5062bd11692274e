"""A ZooKeeper with TLS that wants to know who comes: workers and commands get in, and nobody else touches anything."""

from __future__ import annotations

import gc
import logging
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from hostler.errors import BadConfiguration, ServerUnreachable
from hostler.jobboard.worker import Worker
from hostler.jobboard.zookeeper import connect, disconnect
from lab.process import wait_until
from lab.zookeeper import Secure, ZooKeeper
from tests.functional.jobboard.yard import Yard, connected, told

#: kazoo leaves the socket of a handshake that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)

USER, PASSWORD = "hostler", "a-secret-of-the-ensemble"


class Authority:
    """Signs certificates, by openssl."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.pem"
        new = ("req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=tests", "-days", "2")
        self._run(*new, "-out", self.ca, "-keyout", directory / "ca.key")

    def sign(self, name: str, alternative: str = "IP:127.0.0.1") -> tuple[Path, Path]:
        """Return a certificate of that name and its key; the certificate's file has both."""
        request, both, key = (self.directory / f"{name}.{kind}" for kind in ("csr", "pem", "key"))
        names = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}")
        self._run("req", "-nodes", "-newkey", "rsa:2048", *names, "-out", request, "-keyout", key)
        by = ("-CA", self.ca, "-CAkey", self.directory / "ca.key", "-copy_extensions", "copy", "-days", "2")
        self._run("x509", "-req", "-in", request, *by, "-out", both)
        both.write_text(both.read_text() + key.read_text())
        return both, key

    @staticmethod
    def _run(*words: str | Path) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    identity, _ = authority.sign("zookeeper")
    secure = Secure(identity, authority.ca, USER, PASSWORD)
    with ZooKeeper(tmp_path_factory.mktemp("secure"), secure=secure) as made:
        yield made


@pytest.fixture(scope="module")
def tls(authority: Authority) -> dict[str, Any]:
    """What a host has to say for TLS."""
    certificate, key = authority.sign("kvm1")
    files = {"ca_file": authority.ca, "tls_cert": certificate, "tls_key": key}
    return {"zookeeper__tls": True} | {f"zookeeper__{name}": str(file) for name, file in files.items()}


def known(auth: str, password: str = PASSWORD) -> dict[str, Any]:
    return {"zookeeper__auth": auth, "zookeeper__user": USER, "zookeeper__password": password}


@pytest.fixture
def secure_hosts(server: ZooKeeper) -> str:
    return f"127.0.0.1:{server.secure_port}"


def new_yard(directory: Path, hosts: str, **settings: Any) -> Yard:
    return Yard(directory, hosts, f"sqlite:///{directory}/records.db", **settings)


@pytest.mark.parametrize("auth", ["digest", "sasl"])
def test_a_migration_passes_between_workers_and_a_stranger_touches_nothing_of_it(
    tmp_path: Path,
    server: ZooKeeper,
    secure_hosts: str,
    tls: dict[str, Any],
    auth: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(1)  # kazoo says passwords below DEBUG
    with new_yard(tmp_path, secure_hosts, **tls, **known(auth)) as yard, told():
        for host in ("kvm1", "kvm2"):
            yard.start_worker(host)
        assert yard.wait_for_end(yard.ask()).outcome == "success"
        stranger = connected(server.hosts)
        try:
            closed = [path for path in nodes(yard.zookeeper, yard.root) if is_closed(stranger, path)]
            assert closed == list(nodes(yard.zookeeper, yard.root))
            assert f"{yard.root}/boards/kvm2" in closed
            with pytest.raises(NoAuthError):
                stranger.create(f"{yard.root}/wishes/mine")
        finally:
            stranger.stop()
            stranger.close()
        for intruder in ({}, known("digest", "guessed")):
            conf = yard.new_conf("kvm1", **{"zookeeper__auth": None} | intruder)
            with pytest.raises(BadConfiguration, match=f"does not let .* touch {yard.root}"):
                connect(conf)
    assert PASSWORD not in caplog.text


def nodes(client: KazooClient, path: str) -> Iterator[str]:
    yield path
    for name in sorted(client.get_children(path)):
        yield from nodes(client, f"{path}/{name}")


def is_closed(stranger: KazooClient, path: str) -> bool:
    try:
        stranger.get(path)
    except NoAuthError:
        return True
    return False


def test_a_wrong_password_is_told_from_a_server_that_is_away(
    tmp_path: Path, secure_hosts: str, tls: dict[str, Any]
) -> None:
    with pytest.raises(BadConfiguration, match="does not take user 'hostler'") as refused:
        new_yard(tmp_path, secure_hosts, **tls, **known("sasl", "guessed"))
    assert "guessed" not in f"{refused.value} {refused.value.hint}"


def test_a_worker_that_is_known_no_more_ends_so_that_it_is_started_again(
    tmp_path: Path, authority: Authority, tls: dict[str, Any]
) -> None:
    identity, _ = authority.sign("another")
    users = [Secure(identity, authority.ca, USER, password) for password in (PASSWORD, "changed")]
    (tmp_path / "zookeeper").mkdir()
    with ZooKeeper(tmp_path / "zookeeper", secure=users[0]) as server:
        yard = new_yard(tmp_path, f"127.0.0.1:{server.secure_port}", **tls, **known("sasl"))
        with yard, ThreadPoolExecutor(1) as pool:
            worker = Worker(yard.new_conf("kvm1"), yard.database, yard.drivers["kvm1"])
            running = pool.submit(worker.run)
            wait_until(lambda: "kvm1" in yard.board.workers(), "the worker", 20)
            server.kill()
            server.secure = users[1]
            server.start()
            error = running.exception(60)
    assert isinstance(error, BadConfiguration)
    assert "does not take user 'hostler'" in str(error)


@pytest.mark.parametrize("wrong", ["another authority", "another name", "no certificate of ours"])
def test_who_does_not_prove_who_it_is_is_not_spoken_to(
    tmp_path: Path, authority: Authority, server: ZooKeeper, tls: dict[str, Any], wrong: str
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "another authority": {"zookeeper__ca_file": None},
        "another name": {"zookeeper__hosts": [f"localhost:{server.secure_port}"]},
        "no certificate of ours": {"zookeeper__tls_cert": None, "zookeeper__tls_key": None},
    }
    says = {
        "another authority": "certificate verify failed",
        "another name": "Hostname mismatch",
        "no certificate of ours": "alert",
    }
    with pytest.raises(ServerUnreachable, match=says[wrong]):
        new_yard(
            tmp_path,
            f"127.0.0.1:{server.secure_port}",
            **tls | {"zookeeper__connect_timeout": 1.0} | changes[wrong],
        )
    gc.collect()


def test_what_was_made_before_there_was_a_password_is_told_to_be_open(
    tmp_path: Path,
    server: ZooKeeper,
    secure_hosts: str,
    tls: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with new_yard(tmp_path, server.hosts) as yard:
        caplog.set_level(logging.WARNING)
        hosts = {"zookeeper__hosts": [secure_hosts]}
        disconnect(connect(yard.new_conf("kvm1", **hosts, **tls, **known("sasl"))))
        assert f"anybody may touch {yard.root}" in caplog.text


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"tls_cert": "/etc/passwd", "tls": True}, "tls_key"),
        ({"tls_key": "/etc/passwd", "tls": True}, "tls_cert"),
        ({"ca_file": "/nowhere", "tls": True}, "ca_file"),
        ({"ca_file": "/etc/passwd"}, "ca_file"),
        ({"auth": "digest"}, "user"),
        ({"auth": "sasl", "user": "hostler"}, "password"),
    ],
)
def test_half_of_it_is_refused_before_anybody_is_asked(
    tmp_path: Path, settings: dict[str, Any], option: str
) -> None:
    given = {f"zookeeper__{name}": value for name, value in settings.items()}
    with pytest.raises(BadConfiguration, match=rf"\[zookeeper\] {option}"):
        new_yard(tmp_path, "127.0.0.1:1", **given)
