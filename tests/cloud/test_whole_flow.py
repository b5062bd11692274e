"""A server of a cloud moves between two real hosts: ports in Neutron, a place in Placement, disks of every kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab import Host, Lab
from lab.places import BASE, CHECKOUT
from lab.process import wait_until
from lab.services import Ceph, Cinder, Neutron, Placement, RabbitMQ, Tgt, write_clouds
from lab.services.cloud import CloudService
from lab.switch import MACHINE, identity_of
from tests.acceptance.conftest import LAB, SETTINGS
from tests.support.cable import Cable
from tests.support.cloud import BRIDGE, IMAGE, LOCAL, LUN, PROVIDER, VOLUME, Cloud, notes
from tests.support.listener import CONFIRMED, MIGRATED, REVERTED, Listener
from tests.support.operator import confirm, copying, hostler, left_of, move, server, wait_ready

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(900),  # the first one starts all the services, and two hosts
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

#: Where oslo.messaging sends, unless its *control_exchange* says otherwise.
EXCHANGE = "openstack"
#: What the hosts' settings say of the services.
CLOUD = """
[drivers]
claims = placement
ports = neutron
volumes = cinder
notifications = log,messagingv2

[notifications]
transport_url = rabbit://guest:guest@{broker}/

[openstack]
cloud = lab
clouds_file = {clouds}
resource_providers = {providers}
timeout = 10
retries = 1
"""


@pytest.fixture(scope="module")
def cloud(
    real_neutron: Neutron,
    real_placement: Placement,
    neutron_network: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    """Up for the module: the lab's hosts reach the services by way of cables, and QEMU its disks without."""
    directory = BASE / f"cloud-{identity_of(CHECKOUT)}{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    home = tmp_path_factory.mktemp("whole")
    with ExitStack() as stack:
        lab = Lab(directory, disk_size="20G", settings=SETTINGS)
        lab.down()
        stack.enter_context(lab)
        machine = lab.switch.address(MACHINE)
        broker = stack.enter_context(RabbitMQ(home / "rabbitmq"))
        tgt = stack.enter_context(Tgt(home / "tgt", machine))
        ceph = stack.enter_context(Ceph(home / "ceph", machine))
        cinder = stack.enter_context(Cinder(home / "cinder", ceph=ceph))
        apis = {"neutron": real_neutron, "placement": real_placement, "cinder": cinder}
        cables = {
            name: stack.enter_context(Cable(one.address, one.port, machine))
            for name, one in {**apis, "broker": broker}.items()
        }
        clouds = lab.directory / "shared" / "clouds.yaml"
        tell_where(clouds, apis, {name: f"http://{machine}:{cables[name].port}" for name in apis})
        start_workers(lab, real_placement, clouds, f"{machine}:{cables['broker'].port}")
        listener = Listener(broker, EXCHANGE)
        yield Cloud(lab, real_neutron, real_placement, cinder, ceph, tgt, listener, neutron_network, cables)


def tell_where(clouds: Path, services: dict[str, CloudService], urls: dict[str, str]) -> None:
    """Write the hosts' ``clouds.yaml``, in which each service is where its cable ends."""
    write_clouds(clouds, list(services.values()))
    text = clouds.read_text()
    for name, one in services.items():
        text = text.replace(one.url, urls[name])
    clouds.write_text(text)


def start_workers(lab: Lab, placement: Placement, clouds: Path, broker: str) -> None:
    """Let the hosts be resource providers and have a bridge, and their workers ask the services."""
    named = ",".join(f"{host.name}:{PROVIDER.format(host.name)}" for host in lab.hosts)
    for host in lab.hosts:
        placement.add_provider(PROVIDER.format(host.name), VCPU=64, MEMORY_MB=65536, DISK_GB=1000)
        host.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        host.run(["ip", "link", "set", BRIDGE, "up"])
        host.configure(CLOUD.format(providers=named, clouds=clouds, broker=broker))
    lab.hosts[0].run(["hostler", "db", "upgrade"])
    for host in lab.hosts:
        host.start_worker()
    wait_ready(*lab.hosts)


@pytest.fixture
def kvm1(cloud: Cloud) -> Host:
    return cloud.lab.host("kvm1")


@pytest.fixture
def kvm2(cloud: Cloud) -> Host:
    return cloud.lab.host("kvm2")


@pytest.fixture(autouse=True)
def whole(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test there are no guests, and nothing is cut."""
    request.node.stash[LAB] = cloud.lab
    yield
    for cable in cloud.cables.values():
        cable.plug()
    for host in cloud.lab.hosts:
        host.slow_link(None)
        host.remove_guests()
    cloud.forget()


def heard(cloud: Cloud, instance: str, *events: str) -> None:
    """Wait for the events of a server, which are these in this order."""

    def came() -> bool:
        cloud.listener.listen(0)
        return len(cloud.listener.of(instance)) >= len(events)

    wait_until(came, f"{len(events)} events", pause_s=0.2)
    assert cloud.listener.of(instance) == list(events)


def test_a_server_of_a_cloud_moves_and_is_confirmed(cloud: Cloud, kvm1: Host, kvm2: Host) -> None:
    guest = cloud.add_server("citizen")
    before = cloud.everything(guest)
    assert before["attached"] == ("in-use", [(guest.uuid, "kvm1", f"/dev/{VOLUME}")])
    assert before["open"] == {VOLUME: ["kvm1"], IMAGE: ["kvm1"], LUN: ["kvm1"]}

    assert move(kvm1, guest.name, "kvm2").code == 0

    booted = guest.wait_for_boot(kvm2)
    assert " DIRTY=no " in booted
    assert notes(booted) == dict.fromkeys((LOCAL, VOLUME, IMAGE, LUN), "1"), "what it wrote on kvm1"
    assert cloud.bound(guest) == [{"kvm1": "INACTIVE", "kvm2": "ACTIVE"}] * 2
    moved = cloud.everything(guest)
    assert moved["held"] == {"kvm2": before["held"]["kvm1"]}
    assert moved["usages"]["kvm1"] == before["usages"]["kvm1"], "the way back is held for the migration"
    assert moved["attached"] == ("in-use", [(guest.uuid, "kvm2", f"/dev/{VOLUME}")])
    assert moved["open"] == {VOLUME: ["kvm2"], IMAGE: ["kvm2"], LUN: ["kvm2"]}
    assert hostler(kvm1, "doctor").code == 0

    assert confirm(kvm2, guest.name).code == 0

    assert cloud.bound(guest) == [{"kvm2": "ACTIVE"}] * 2
    settled = cloud.everything(guest)
    assert settled["held"] == {"kvm2": before["held"]["kvm1"]}
    assert settled["usages"]["kvm2"] == before["usages"]["kvm1"]
    assert not any(settled["usages"]["kvm1"].values())
    assert [port["kvm2"]["vif_details"] for port in settled["ports"]] == [
        port["kvm1"]["vif_details"] for port in before["ports"]
    ]
    assert {name: settled[name] for name in ("attached", "open")} == {
        name: moved[name] for name in ("attached", "open")
    }
    assert server(kvm1, guest.name) == ("kvm2", "active", None, "running")
    heard(cloud, guest.uuid, *MIGRATED, *CONFIRMED)
    assert hostler(kvm2, "doctor").code == 0


def test_a_server_of_a_cloud_goes_back_and_everything_is_as_it_was(
    cloud: Cloud, kvm1: Host, kvm2: Host
) -> None:
    guest = cloud.add_server("returner")
    before = cloud.everything(guest)
    assert move(kvm1, guest.name, "kvm2").code == 0
    guest.wait_for_boot(kvm2)
    assert cloud.everything(guest) != before

    wish = ("server", "revert", "--wait", "--drop-writes", "--reason", "slow")
    assert hostler(kvm2, *wish, guest.name).code == 0

    booted = guest.wait_for_boot(kvm1, 2)
    written_there = dict.fromkeys((VOLUME, IMAGE, LUN), "2")
    assert notes(booted) == {LOCAL: "1", **written_there}, (
        "what it wrote on kvm2 is dropped where it was local"
    )
    assert cloud.everything(guest) == before
    assert server(kvm1, guest.name) == ("kvm1", "active", None, "running")
    heard(cloud, guest.uuid, *MIGRATED, *REVERTED)
    assert hostler(kvm1, "doctor").code == 0


@pytest.mark.parametrize("service", ["Neutron", "Placement", "Cinder"])
def test_a_service_that_goes_away_in_the_middle_of_the_copy_costs_nothing(
    cloud: Cloud, kvm1: Host, kvm2: Host, service: str
) -> None:
    guest = cloud.add_server(f"without-{service.lower()}")
    before = cloud.everything(guest)
    with copying(kvm1, kvm2, guest.name) as asked:
        said = {host.name: host.worker_log(1_000_000) for host in (kvm1, kvm2)}
        cloud.cables[service.lower()].pull()
        if service == "Placement":  # nothing asks it from here on but the undo
            assert hostler(kvm1, "migration", "cancel", guest.name, "--reason", "no use").code in (0, 4)
        else:
            kvm1.slow_link(None)
            asked.says(f"{service} failed")
        wait_until(lambda: missed(service, said, kvm1, kvm2), f"{service} to be missed", 120, pause_s=0.2)
        cloud.cables[service.lower()].plug()
        assert asked.end().code == 4

    assert cloud.everything(guest) == before
    assert server(kvm1, guest.name) == ("kvm1", "active", None, "running")
    assert [path for path in left_of(kvm2, guest) if "part" in path] == []
    assert hostler(kvm1, "doctor").code == 0


def missed(service: str, said: dict[str, str], *hosts: Host) -> bool:
    """Tell whether a worker has said since then that a service does not answer."""
    new = [host.worker_log(1_000_000).removeprefix(said[host.name]) for host in hosts]
    return any(f"{service} does not answer" in text for text in new)
