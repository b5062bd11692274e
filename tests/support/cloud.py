"""Two real hosts and the services of a cloud: what a server of it has in each, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from lab import Guest, Host, Lab
from lab.disks import LAYERED, NOTEBOOK, Disk
from lab.process import run
from lab.services import Ceph, Cinder, Neutron, Placement, Tgt
from tests.support.cable import Cable
from tests.support.listener import Listener
from tests.support.operator import told, wait_known

BRIDGE = "br-int"
SECOND_PORT = f"<interface type='bridge'><source bridge='{BRIDGE}'/><model type='virtio'/></interface>"
#: How hosts are called in Placement.
PROVIDER = "whole-{}"
#: The guest's disks but for its boot disk: a local one, a volume of Cinder's, an image of Ceph's, a target's.
LOCAL, VOLUME, IMAGE, LUN = "vdb", "vdc", "vdd", "vde"


@dataclass
class Cloud:
    """The hosts, the services that they ask, and the cables between; QEMU reaches Ceph and the target without."""

    lab: Lab
    neutron: Neutron
    placement: Placement
    cinder: Cinder
    ceph: Ceph
    tgt: Tgt
    listener: Listener
    network: str
    cables: dict[str, Cable] = field(default_factory=dict)
    #: The servers' volumes of Cinder.
    volumes: dict[str, str] = field(default_factory=dict)

    # -- making -------------------------------------------------------------------------------------------

    def add_server(self, name: str) -> Guest:
        """Make a running server with ports, disks of each kind and a place on kvm1, as Nova would have."""
        kvm1, volume = self.lab.host("kvm1"), self.cinder.add_volume()
        disks = (
            self.ceph.disk(f"volume-{volume}", VOLUME, self.cinder.pool, serial=volume),
            self.ceph.disk(name, IMAGE),
            self.tgt.disk(name, LUN),
        )
        guest = Guest(
            name,
            disks=(LAYERED, Disk(kind="sparse", format="raw", size_mib=256, data_mib=32)),
            bridge=BRIDGE,
            devices=(SECOND_PORT, *disks),
        )
        self.volumes[guest.uuid] = volume
        self._make_notebooks(name, volume)
        guest.create(kvm1)
        _begin(kvm1.path(guest.disk_path(1)))
        for mac in _macs(kvm1, guest):
            self.neutron.add_port(self.network, guest.uuid, "kvm1", mac_address=mac)
        self.cinder.attach(volume, guest.uuid, "kvm1", f"/dev/{VOLUME}")
        guest.start(kvm1)
        wait_known(kvm1, guest)
        self._allocate(guest, told(kvm1, "server", "show", name))
        return guest

    def forget(self) -> None:
        """Let no server have a part of a host: they are gone."""
        for server in self.volumes:
            self.placement.request("DELETE", f"/allocations/{server}")
        self.volumes.clear()

    def _make_notebooks(self, name: str, volume: str) -> None:
        """Let the disks that QEMU opens over the network be notebooks, written by QEMU's own client."""
        content = self.lab.directory / "notebook"
        content.write_bytes(NOTEBOOK)
        image = self.ceph.uri(f"volume-{volume}", self.cinder.pool)
        for uri in (image, self.ceph.add_image(name), self.tgt.add_volume(name)):
            run(["qemu-io", "-f", "raw", "-c", f"write -s {content} 0 {len(NOTEBOOK)}", uri])

    def _allocate(self, guest: Guest, facts: dict[str, Any]) -> None:
        size = {"VCPU": facts["vcpus"], "MEMORY_MB": facts["memory_mb"], "DISK_GB": 1}
        whose = {
            "project_id": "lab",
            "user_id": "lab",
            "consumer_type": "INSTANCE",
            "consumer_generation": None,
        }
        body = {"allocations": {self.providers["kvm1"]: {"resources": size}}, **whose}
        self.placement.request("PUT", f"/allocations/{guest.uuid}", body)

    # -- looking ------------------------------------------------------------------------------------------

    @property
    def providers(self) -> dict[str, str]:
        """The uuids of the hosts' resource providers."""
        found = self.placement.request("GET", "/resource_providers")["resource_providers"]
        uuids = {one["name"]: one["uuid"] for one in found}
        return {host.name: uuids[PROVIDER.format(host.name)] for host in self.lab.hosts}

    def everything(self, guest: Guest) -> dict[str, Any]:
        """All that the services have of a server, but for how often it was changed, and the uuids of attachments."""
        hosts = {uuid: host for host, uuid in self.providers.items()}
        allocations = self.placement.request("GET", f"/allocations/{guest.uuid}")["allocations"]
        usages = {
            host: self.placement.request("GET", f"/resource_providers/{uuid}/usages")["usages"]
            for uuid, host in hosts.items()
        }
        held = {hosts[provider]: one["resources"] for provider, one in allocations.items()}
        facts = {"ports": self.ports(guest), "held": held, "usages": usages}
        return {**facts, "attached": self.attached(guest), "open": self.open_on(guest)}

    def ports(self, guest: Guest) -> list[dict[str, Any]]:
        """Each port's bindings, by host."""
        ports = self.neutron.request("GET", f"/v2.0/ports?device_id={guest.uuid}")["ports"]
        found = []
        for port in sorted(ports, key=lambda one: str(one["mac_address"])):
            bindings = self.neutron.request("GET", f"/v2.0/ports/{port['id']}/bindings")["bindings"]
            found.append({one["host"]: one for one in bindings})
        return found

    def bound(self, guest: Guest) -> list[dict[str, str]]:
        """Where each port is bound, and whether that is active."""
        return [{host: one["status"] for host, one in port.items()} for port in self.ports(guest)]

    def attached(self, guest: Guest) -> tuple[str, list[tuple[str, str, str]]]:
        """The status of the server's volume of Cinder, and of each attachment the server, its host and the device."""
        volume = self.cinder.volume(self.volumes[guest.uuid])
        whose = [(one["server_id"], one["host_name"], one["device"]) for one in volume["attachments"]]
        return volume["status"], sorted(whose, key=repr)

    def open_on(self, guest: Guest) -> dict[str, list[str]]:
        """The hosts that have each of the server's disks open that are not on a host."""
        names = {host.address: host.name for host in self.lab.hosts}
        addresses = {
            VOLUME: self.ceph.connected(f"volume-{self.volumes[guest.uuid]}", self.cinder.pool),
            IMAGE: self.ceph.connected(guest.name),
            LUN: self.tgt.connected(guest.name),
        }
        return {disk: [names.get(one, one) for one in found] for disk, found in addresses.items()}


def notes(line: str) -> dict[str, str]:
    """Return which boot was the last to see each of a guest's notebooks, as it said when it booted."""
    said = dict(word.partition("=")[::2] for word in line.split())["NOTES"]
    return dict(one.split(":") for one in said.split(","))


def _begin(notebook: Path) -> None:
    with notebook.open("r+b") as file:
        file.write(NOTEBOOK)


def _macs(host: Host, guest: Guest) -> list[str]:
    root = ET.fromstring(host.virsh("dumpxml", guest.uuid))
    return [str(mac.get("address")) for mac in root.findall("devices/interface/mac")]
