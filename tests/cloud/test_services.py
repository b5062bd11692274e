"""Each service of the lab by its command: it is up, its own client is answered, it is down, and nothing is left."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kombu
import psycopg2
import pytest

from lab.process import marked, run, wait_until
from lab.services import (
    SERVICES,
    Ceph,
    Cinder,
    MariaDB,
    Neutron,
    Ovn,
    Placement,
    Service,
    SharedPostgreSQL,
    Tgt,
)
from lab.services.service import MARK

#: What QEMU's own client for disks is to do with a volume.
PATTERN = ["-c", "write -P 0xa5 1M 64k", "-c", "flush"], ["-c", "read -P 0xa5 1M 64k"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where services are; ended, whatever became of the test."""
    yield tmp_path / "services"
    for name in SERVICES:
        SERVICES[name](tmp_path / "services" / name).remove()


def services(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a command of ``tools/lab services``."""
    return subprocess.run(command(folder, *words), capture_output=True, text=True, timeout=240)


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "lab", "services", "--folder", str(folder), *words]


def processes(folder: Path, name: str) -> set[int]:
    """The processes of a service, as the mark in their environment tells."""
    return set(marked(f"{MARK}={folder / name}"))


def shared_memory(pids: set[int]) -> set[str]:
    """The shared memory that these processes have: files, and segments of System V."""
    maps = "".join(map(maps_of, pids))
    files = {line.split()[-1] for line in maps.splitlines() if "/dev/shm/" in line}
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return files | {f"shmid {row[1]}" for row in rows if int(row[4]) in pids}


def maps_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return ""


def is_left(memory: str) -> bool:
    if memory.startswith("/"):
        return Path(memory).exists()
    rows = [line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return memory.split()[1] in rows


def nothing_is_left(folder: Path, name: str, memory: set[str]) -> None:
    assert processes(folder, name) == set()
    assert not folder.exists()
    assert [one for one in memory if is_left(one)] == []


def ask_mariadb(service: Service) -> None:
    assert isinstance(service, MariaDB)
    assert service.ask("SELECT 6 * 7") == "42"


def ask_postgresql(service: Service) -> None:
    assert isinstance(service, SharedPostgreSQL)
    with psycopg2.connect(service.url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 6 * 7")
        assert cursor.fetchone() == (42,)
    connection.close()


def ask_rabbitmq(service: Service) -> None:
    with kombu.Connection(service.url.replace("rabbit://", "amqp://")) as connection:
        queue = connection.SimpleQueue("answers")
        queue.put(42)
        assert queue.get(timeout=10).payload == 42
        queue.close()


def ask_tgt(service: Service) -> None:
    assert isinstance(service, Tgt)
    opened_by_qemu(service.add_volume("answers"))
    assert service.file("answers").read_bytes()[1 << 20 : (1 << 20) + (64 << 10)] == b"\xa5" * (64 << 10)
    assert service.connected("answers") == []


def ask_ceph(service: Service) -> None:
    assert isinstance(service, Ceph)
    assert service.ask("health")["status"] == "HEALTH_OK"
    opened_by_qemu(service.add_image("answers"))
    assert service.rbd("ls").split() == ["answers"]
    assert service.connected("answers") == service.locked("answers") == []


def ask_placement(service: Service) -> None:
    assert isinstance(service, Placement)
    service.add_provider("kvm1", VCPU=8)
    (found,) = service.request("GET", "/resource_providers")["resource_providers"]
    assert found["name"] == "kvm1"


def ask_neutron(service: Service) -> None:
    assert isinstance(service, Neutron)
    port = service.add_port(service.add_network("lab"), "11111111-1111-4111-8111-111111111111", "kvm1")
    assert port["binding:vif_type"] == "ovs"


def ask_ovn(service: Service) -> None:
    assert isinstance(service, Ovn)
    service.add_port("port", "52:54:00:00:00:01", asks_for="kvm1")
    service.plug("kvm1", "port")
    wait_until(lambda: service.chassis_of("port") == "kvm1", "the port to be plugged in")


def ask_cinder(service: Service) -> None:
    assert isinstance(service, Cinder)
    assert service.open_to(service.add_volume()) == []


def opened_by_qemu(uri: str) -> None:
    """Let QEMU's own clients look at a volume, write to it, and read it."""
    told = json.loads(run(["qemu-img", "info", "--output=json", uri]))
    assert told["virtual-size"] == 64 << 20
    for words in PATTERN:
        said = run(["qemu-io", "-f", "raw", *words, uri])
        assert "65536/65536 bytes" in said
        assert "verification failed" not in said


ASKED: dict[str, Callable[[Service], None]] = {
    "mariadb": ask_mariadb,
    "postgresql": ask_postgresql,
    "rabbitmq": ask_rabbitmq,
    "tgt": ask_tgt,
    "ceph": ask_ceph,
    "placement": ask_placement,
    "neutron": ask_neutron,
    "ovn": ask_ovn,
    "cinder": ask_cinder,
}


@pytest.mark.parametrize("name", ASKED)
def test_a_service_is_up_and_answers_and_is_down(folder: Path, name: str) -> None:
    said = services(folder, "up", name)
    assert said.returncode == 0, said.stderr
    service = SERVICES[name](folder / name)
    assert f"{name}  {service.url}  on" in said.stdout
    assert service.port < 32768
    ASKED[name](service)
    service.kill()
    assert f"{name}  {service.url}  off" in services(folder, "status").stdout
    assert services(folder, "up", name).returncode == 0
    memory = shared_memory(processes(folder, name))
    assert services(folder, "down", name).returncode == 0
    nothing_is_left(folder, name, memory)


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("moment", ["the first process", "half a second later", "two seconds later"])
def test_what_a_killed_start_has_begun_is_gone_after_down(folder: Path, name: str, moment: str) -> None:
    with subprocess.Popen(command(folder, "up", name), stdout=subprocess.DEVNULL) as starting:
        wait_until(lambda: bool(processes(folder, name)), f"a process of {name}", 30, pause_s=0.002)
        time.sleep({"the first process": 0, "half a second later": 0.5, "two seconds later": 2}[moment])
        starting.kill()
    memory = shared_memory(processes(folder, name))

    assert services(folder, "down").returncode == 0

    nothing_is_left(folder, name, memory)


def test_two_commands_do_not_start_and_end_services_of_one_folder_at_once(folder: Path) -> None:
    folder.mkdir()
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        for verb in ("up", "down"):
            said = services(folder, verb, "tgt")
            assert said.returncode == 1
            assert f"another command starts or ends services in {folder}" in said.stderr
            assert "--folder" in said.stderr
    finally:
        os.close(held)
    assert services(folder, "down").returncode == 0
    assert not folder.exists()
