"""A server of a cloud moves between two real hosts: its ports are Neutron's, its place Placement's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from lab import Guest, Host, Lab
from lab.disks import LAYERED, Disk
from lab.places import BASE, CHECKOUT
from lab.process import wait_until
from lab.rabbitmq import RabbitMQ
from lab.services import Neutron, Placement, write_clouds
from lab.services.service import Service
from lab.switch import identity_of
from tests.acceptance.conftest import SETTINGS
from tests.support.cable import Cable
from tests.support.listener import CONFIRMED, MIGRATED, Listener
from tests.support.operator import (
    confirm,
    copying,
    hostler,
    left_of,
    move,
    server,
    told,
    wait_known,
    wait_ready,
)

pytestmark = [pytest.mark.lab, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

#: What the hosts' settings say of the services.
CLOUD = """
[drivers]
claims = placement
ports = neutron
notifications = log,messagingv2

[notifications]
transport_url = rabbit://guest:guest@{broker}/

[openstack]
cloud = lab
clouds_file = {clouds}
resource_providers = kvm1:whole-kvm1,kvm2:whole-kvm2
timeout = 5
retries = 1
"""
BRIDGE = "br-int"
SECOND_PORT = f"<interface type='bridge'><source bridge='{BRIDGE}'/><model type='virtio'/></interface>"


@dataclass
class Cloud:
    """Two hosts, the services that they ask, and the cables between."""

    lab: Lab
    neutron: Neutron
    placement: Placement
    listener: Listener
    network: str
    cables: dict[str, Cable] = field(default_factory=dict)

    def add_server(self, name: str) -> Guest:
        """Make a running server with two ports and a place on kvm1, as Nova would have."""
        kvm1 = self.lab.host("kvm1")
        guest = Guest(
            name, disks=(LAYERED, Disk(format="raw")), bridge=BRIDGE, devices=(SECOND_PORT,)
        ).create(kvm1)
        for mac in macs(kvm1, guest):
            self.neutron.add_port(self.network, guest.uuid, "kvm1", mac_address=mac)
        guest.start(kvm1)
        wait_known(kvm1, guest)
        facts = told(kvm1, "server", "show", name)
        size = {"VCPU": facts["vcpus"], "MEMORY_MB": facts["memory_mb"], "DISK_GB": 1}
        provider = self.providers["kvm1"]
        self.placement.request(
            "PUT",
            f"/allocations/{guest.uuid}",
            {
                "allocations": {provider: {"resources": size}},
                "consumer_generation": None,
                "project_id": "lab",
                "user_id": "lab",
                "consumer_type": "INSTANCE",
            },
        )
        return guest

    @property
    def providers(self) -> dict[str, str]:
        """The uuids of the hosts' resource providers."""
        found = self.placement.request("GET", "/resource_providers")["resource_providers"]
        return {one["name"].removeprefix("whole-"): one["uuid"] for one in found}

    def everything(self, guest: Guest) -> dict[str, Any]:
        """All that the services have of a server, but for how often it was changed."""
        hosts = {uuid: host for host, uuid in self.providers.items()}
        allocations = self.placement.request("GET", f"/allocations/{guest.uuid}")["allocations"]
        usages = {
            host: self.placement.request("GET", f"/resource_providers/{uuid}/usages")["usages"]
            for uuid, host in hosts.items()
        }
        held = {hosts[provider]: one["resources"] for provider, one in allocations.items()}
        return {"ports": self.ports(guest), "held": held, "usages": usages}

    def ports(self, guest: Guest) -> list[dict[str, Any]]:
        """Each port's bindings, by host."""
        ports = self.neutron.request("GET", f"/ports?device_id={guest.uuid}")["ports"]
        found = []
        for port in sorted(ports, key=lambda one: one["mac_address"]):
            bindings = self.neutron.request("GET", f"/ports/{port['id']}/bindings")["bindings"]
            found.append({one["host"]: one for one in bindings})
        return found

    def places(self, guest: Guest) -> list[dict[str, str]]:
        """Where each port is bound, and whether that is active."""
        return [{host: one["status"] for host, one in port.items()} for port in self.ports(guest)]


def macs(host: Host, guest: Guest) -> list[str]:
    """The addresses of a guest's interfaces."""
    root = ET.fromstring(host.virsh("dumpxml", guest.uuid))
    return [str(mac.get("address")) for mac in root.findall("devices/interface/mac")]


@pytest.fixture(scope="module")
def cloud(
    real_neutron: Neutron, real_placement: Placement, neutron_network: str, tmp_path_factory: Any
) -> Iterator[Cloud]:
    """Up for the module: the lab's hosts reach the services by way of cables."""
    directory = BASE / f"cloud-{identity_of(CHECKOUT)}{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    with ExitStack() as stack:
        broker = stack.enter_context(RabbitMQ(tmp_path_factory.mktemp("rabbitmq")))
        lab = Lab(directory, disk_size="20G", settings=SETTINGS)
        lab.down()
        stack.enter_context(lab)
        machine = lab.switch.address(253)
        services: dict[str, Service | RabbitMQ] = {
            "neutron": real_neutron,
            "placement": real_placement,
            "broker": broker,
        }
        cables = {
            name: stack.enter_context(Cable("127.0.0.1", one.port, machine)) for name, one in services.items()
        }
        clouds = lab.directory / "shared" / "clouds.yaml"
        write_clouds(clouds, [real_neutron, real_placement])
        text = clouds.read_text()
        for name, one in (("neutron", real_neutron), ("placement", real_placement)):
            text = text.replace(one.url, f"http://{machine}:{cables[name].port}")
        clouds.write_text(text)
        listener = Listener(broker, "nova")
        for host in lab.hosts:
            real_placement.add_provider(f"whole-{host.name}", VCPU=64, MEMORY_MB=65536, DISK_GB=1000)
            host.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
            host.run(["ip", "link", "set", BRIDGE, "up"])
            host.configure(
                SETTINGS + CLOUD.format(broker=f"{machine}:{cables['broker'].port}", clouds=clouds)
            )
        lab.hosts[0].run(["hostler", "db", "upgrade"])
        for host in lab.hosts:
            host.start_worker()
        wait_ready(*lab.hosts)
        yield Cloud(lab, real_neutron, real_placement, listener, neutron_network, cables)


@pytest.fixture
def kvm1(cloud: Cloud) -> Host:
    return cloud.lab.host("kvm1")


@pytest.fixture
def kvm2(cloud: Cloud) -> Host:
    return cloud.lab.host("kvm2")


@pytest.fixture(autouse=True)
def whole(cloud: Cloud) -> Iterator[None]:
    """Each test begins without guests and with nothing said."""
    cloud.listener.messages.clear()
    yield
    for cable in cloud.cables.values():
        cable.plug()
    for host in cloud.lab.hosts:
        host.slow_link(None)
        host.remove_guests()


def test_a_server_of_a_cloud_moves_and_is_confirmed(cloud: Cloud, kvm1: Host, kvm2: Host) -> None:
    guest = cloud.add_server("citizen")
    before = cloud.everything(guest)
    heard = len(cloud.listener.messages)

    assert move(kvm1, guest.name, "kvm2").code == 0

    assert " DIRTY=no " in guest.wait_for_boot(kvm2)
    assert cloud.places(guest) == [{"kvm1": "INACTIVE", "kvm2": "ACTIVE"}] * 2
    moved = cloud.everything(guest)
    assert moved["held"] == {"kvm2": before["held"]["kvm1"]}
    assert moved["usages"]["kvm1"] == before["usages"]["kvm1"], "the way back is held for the migration"
    assert hostler(kvm1, "doctor").code == 0

    assert confirm(kvm2, guest.name).code == 0

    assert cloud.places(guest) == [{"kvm2": "ACTIVE"}] * 2
    settled = cloud.everything(guest)
    assert settled["held"] == {"kvm2": before["held"]["kvm1"]}
    assert not any(settled["usages"]["kvm1"].values())
    assert [port["kvm2"]["vif_details"] for port in settled["ports"]] == [
        port["kvm1"]["vif_details"] for port in before["ports"]
    ]
    assert server(kvm1, guest.name) == ("kvm2", "active", None, "running")
    assert cloud.listener.listen(heard + len(MIGRATED) + len(CONFIRMED))[heard:] == [*MIGRATED, *CONFIRMED]
    assert hostler(kvm2, "doctor").code == 0


def test_a_server_of_a_cloud_goes_back_and_everything_is_as_it_was(
    cloud: Cloud, kvm1: Host, kvm2: Host
) -> None:
    guest = cloud.add_server("returner")
    before = cloud.everything(guest)
    assert move(kvm1, guest.name, "kvm2").code == 0
    assert cloud.everything(guest) != before

    assert (
        hostler(kvm2, "server", "revert", "--wait", "--drop-writes", "--reason", "slow", guest.name).code == 0
    )

    assert cloud.everything(guest) == before
    assert server(kvm1, guest.name) == ("kvm1", "active", None, "running")
    assert hostler(kvm1, "doctor").code == 0


@pytest.mark.parametrize("service", ["neutron", "placement"])
def test_a_service_that_goes_away_in_the_middle_of_the_copy_costs_nothing(
    cloud: Cloud, kvm1: Host, kvm2: Host, service: str
) -> None:
    guest = cloud.add_server(f"without-{service}")
    before = cloud.everything(guest)
    with copying(kvm1, kvm2, guest.name) as asked:
        cloud.cables[service].pull()
        if service == "placement":  # nothing asks it from here on but the undo
            assert hostler(kvm1, "migration", "cancel", guest.name, "--reason", "no use").code in (0, 4)
    said_away = "Neutron" if service == "neutron" else "Placement"
    wait_until(lambda: said_away in kvm2.worker_log(1000), f"{said_away} to be missed", 120)
    cloud.cables[service].plug()

    assert asked.end().code == 4

    assert cloud.everything(guest) == before
    assert server(kvm1, guest.name) == ("kvm1", "active", None, "running")
    assert [path for path in left_of(kvm2, guest) if "part" in path] == []
    assert hostler(kvm1, "doctor").code == 0
