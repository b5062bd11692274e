"""Ports: bound to one host at a time, and put back exactly as they were. The fake keeps the same promises."""

from __future__ import annotations

from typing import Any

import pytest

from hostler.drivers.ports.fake import FakePorts
from hostler.drivers.ports.libvirt import LibvirtPorts, host_devices, read_map
from hostler.errors import BadConfiguration, Fenced, PortBindingFailed
from hostler.objects import Port
from hostler.records import fence, instances
from hostler.records.database import Database
from hostler.records.fence import FencedRecords
from hostler.records.models import Binding
from tests.records_made import make_host, make_instance, make_leg, make_migration

LAB = Port(mac="52:54:00:00:00:01", kind="network", source="lab")
BR0 = Port(mac="52:54:00:00:00:02", kind="bridge", source="br0")


@pytest.fixture(params=["libvirt", "fake"])
def ports(request: pytest.FixtureRequest) -> LibvirtPorts:
    """kvm2, which has the network lab, one that is off, and the bridges br0 and br1."""
    networks, bridges = {"lab": True, "off": False}, {"br0", "br1"}
    if request.param == "libvirt":
        return LibvirtPorts(lambda: networks, bridges.__contains__, {}, "kvm2", lambda: bridges)
    fake = FakePorts("kvm2")
    fake.networks, fake.bridges = networks, bridges
    return fake


@pytest.fixture
def instance(any_database: Database) -> str:
    with any_database.transaction() as session:
        make_host(session, "kvm1")
        make_host(session, "kvm2")
        return make_instance(session, "kvm1")


@pytest.fixture
def leg(any_database: Database, instance: str) -> FencedRecords:
    return make_leg(any_database, instance)


def bindings(leg: FencedRecords) -> dict[tuple[str, str], tuple[bool, str, str | None]]:
    with leg.reading() as session:
        rows = session.query(Binding).all()
        return {(row.port[-1], row.host): (row.active, row.network, row.migration_uuid) for row in rows}


def test_a_port_is_active_on_the_destination_and_waits_on_the_source(
    ports: LibvirtPorts, leg: FencedRecords, instance: str
) -> None:
    for _ in range(2):
        ports.bind(leg, instance, LAB, "kvm2")
        ports.bind(leg, instance, BR0, "kvm2")
    assert bindings(leg) == {
        ("1", "kvm1"): (False, "network:lab", None),
        ("1", "kvm2"): (True, "network:lab", leg.migration),
        ("2", "kvm1"): (False, "bridge:br0", None),
        ("2", "kvm2"): (True, "bridge:br0", leg.migration),
    }


def test_unbinding_leaves_no_trace_where_there_was_none(
    ports: LibvirtPorts, leg: FencedRecords, instance: str
) -> None:
    ports.bind(leg, instance, LAB, "kvm2")
    ports.unbind(leg, instance, LAB, "kvm2")
    ports.unbind(leg, instance, LAB, "kvm2")
    assert bindings(leg) == {}


def test_unbinding_restores_what_an_earlier_migration_left(
    ports: LibvirtPorts, leg: FencedRecords, instance: str
) -> None:
    with leg.transaction() as session:
        facts: dict[str, Any] = {"instance_uuid": instance, "port": LAB.mac, "network": "network:lab"}
        session.add(Binding(**facts, host="kvm1", active=True))
        session.add(Binding(**facts, host="kvm3", active=False, migration_uuid="another"))
    before = bindings(leg)
    ports.bind(leg, instance, LAB, "kvm2")
    assert [key for key, row in bindings(leg).items() if row[0]] == [("1", "kvm2")]
    ports.unbind(leg, instance, LAB, "kvm2")
    assert bindings(leg) == before


def test_a_port_can_be_bound_again_after_it_was_unbound(
    ports: LibvirtPorts, leg: FencedRecords, instance: str
) -> None:
    ports.bind(leg, instance, LAB, "kvm2")
    bound = bindings(leg)
    ports.unbind(leg, instance, LAB, "kvm2")
    ports.bind(leg, instance, LAB, "kvm2")
    assert bindings(leg) == bound


def test_unbinding_what_was_never_bound_changes_nothing(
    ports: LibvirtPorts, leg: FencedRecords, instance: str
) -> None:
    ports.unbind(leg, instance, LAB, "kvm2")
    assert bindings(leg) == {}


def test_the_way_back_binds_to_the_source_again(
    ports: LibvirtPorts, leg: FencedRecords, instance: str
) -> None:
    ports.bind(leg, instance, LAB, "kvm2")
    out = bindings(leg)
    with leg.transaction() as session:
        instances.save(session, instance, host="kvm2")
        fence.forget(session, leg.migration)
    ports.bind(leg, instance, LAB, "kvm1")
    assert {key: row[0] for key, row in bindings(leg).items()} == {("1", "kvm1"): True, ("1", "kvm2"): False}
    ports.unbind(leg, instance, LAB, "kvm1")
    assert bindings(leg) == out


def test_a_confirmed_migration_leaves_one_binding_that_belongs_to_nobody(
    ports: LibvirtPorts, leg: FencedRecords, instance: str
) -> None:
    ports.bind(leg, instance, LAB, "kvm2")
    for _ in range(2):
        ports.settle(leg, instance, "kvm2")
    assert bindings(leg) == {("1", "kvm2"): (True, "network:lab", None)}


def test_what_another_migration_has_bound_is_left_alone(
    ports: LibvirtPorts, leg: FencedRecords, instance: str, any_database: Database
) -> None:
    ports.bind(leg, instance, LAB, "kvm2")
    with any_database.transaction() as session:
        second = make_migration(session, instance)
        fence.raise_fence(session, second, 1)
    before = bindings(leg)
    with pytest.raises(PortBindingFailed, match=f"migration {leg.migration} has bound it there"):
        ports.bind(FencedRecords(any_database, second, 1, "kvm2"), instance, LAB, "kvm2")
    assert bindings(leg) == before


def test_a_leg_that_was_passed_over_binds_nothing(
    ports: LibvirtPorts, leg: FencedRecords, instance: str, any_database: Database
) -> None:
    with any_database.transaction() as session:
        fence.raise_fence(session, leg.migration, 2)
    with pytest.raises(Fenced):
        ports.bind(leg, instance, LAB, "kvm2")
    assert bindings(leg) == {}


@pytest.mark.parametrize(
    ("kind", "source", "sentence"),
    [
        ("bridge", "br9", "kvm2 has no bridge br9"),
        ("network", "elsewhere", "kvm2 has no network 'elsewhere'"),
        ("network", "off", "network 'off' of kvm2 is not active"),
        ("direct", "eth9", "kvm2 has no network device eth9"),
        ("bridge", None, "kvm2 has no bridge "),
    ],
)
def test_what_the_host_lacks_is_said_once_and_refuses_the_binding(
    ports: LibvirtPorts, leg: FencedRecords, instance: str, kind: str, source: str | None, sentence: str
) -> None:
    port = Port(mac="52:54:00:00:00:09", kind=kind, source=source)
    assert ports.destination_problems("web1", [port, port, LAB, BR0]) == [sentence]
    with pytest.raises(PortBindingFailed, match=sentence):
        ports.bind(leg, instance, port, "kvm2")
    assert bindings(leg) == {}


def test_an_interface_that_is_plugged_into_nothing_is_no_problem(ports: LibvirtPorts) -> None:
    assert ports.destination_problems("web1", [Port(mac="m", kind="user", source=None)]) == []
    assert ports.mapping("web1", [Port(mac="m", kind="user", source=None)]) == {}


def test_a_source_of_another_name_is_looked_for_and_bound_under_that_name(
    leg: FencedRecords, instance: str
) -> None:
    ports = LibvirtPorts(dict, {"br1"}.__contains__, {"bridge:br0": "bridge:br1"}, "kvm2")
    assert ports.destination_problems("web1", [BR0]) == []
    assert ports.mapping("web1", [BR0, LAB]) == {"bridge:br0": "bridge:br1"}
    ports.bind(leg, instance, BR0, "kvm2")
    assert bindings(leg)["2", "kvm1"][1] == "bridge:br0"
    assert bindings(leg)["2", "kvm2"][1] == "bridge:br1"


@pytest.mark.parametrize("asked", [{"bridge:br0": "bridge:br1"}, {":br0": ":br1", ":lab": ":off"}])
def test_what_a_request_says_goes_before_the_settings(
    ports: LibvirtPorts, leg: FencedRecords, instance: str, asked: dict[str, str]
) -> None:
    ports._network_map = {"bridge:br0": "bridge:br9", "bridge:br1": "bridge:br9"}
    there = ports.as_asked(asked)
    assert there.destination_problems("web1", [BR0]) == []
    assert there.mapping("web1", [BR0]) == {"bridge:br0": "bridge:br1"}
    there.bind(leg, instance, BR0, "kvm2")
    assert bindings(leg)["2", "kvm2"][1] == "bridge:br1"
    there.unbind(leg, instance, BR0, "kvm2")
    assert bindings(leg) == {}
    # others that are on their way here at the same time are not concerned
    assert ports.mapping("web1", [BR0]) == {"bridge:br0": "bridge:br9"}


def test_what_a_request_names_and_the_host_lacks_is_told(ports: LibvirtPorts) -> None:
    there = ports.as_asked({":br0": ":br7", ":lab": ":off"})
    assert there.destination_problems("web1", [BR0, LAB]) == [
        "kvm2 has no bridge br7",
        "network 'off' of kvm2 is not active",
    ]


def test_what_can_be_plugged_into_is_told(ports: LibvirtPorts) -> None:
    told = ports.sources()
    assert told == ["bridge:br0", "bridge:br1", "direct:br0", "direct:br1", "network:lab"]
    every = [Port(mac="m", kind=kind, source=name) for kind, _, name in (one.partition(":") for one in told)]
    assert ports.destination_problems("web1", every) == []


def test_what_can_be_plugged_into_is_told_by_the_names_that_are_asked_for() -> None:
    mapped = {"bridge:br0": "bridge:br1", "bridge:br1": "bridge:gone", "network:lab": "network:off"}
    ports = LibvirtPorts(lambda: {"off": False}, {"br1"}.__contains__, mapped, "kvm2", lambda: ["br1"])
    assert ports.sources() == ["bridge:br0", "direct:br1"]


def test_this_machines_devices_are_told_without_those_of_guests() -> None:
    assert "lo" in host_devices()


def test_the_setting_names_pairs_of_one_kind() -> None:
    assert read_map(["bridge:br0=bridge:br1", "network:a=network:b"]) == {
        "bridge:br0": "bridge:br1",
        "network:a": "network:b",
    }


@pytest.mark.parametrize(
    "line", ["br0=br1", "bridge:br0", "bridge:br0=network:lab", "bridge:=bridge:br1", ""]
)
def test_half_a_setting_is_refused(line: str) -> None:
    with pytest.raises(BadConfiguration, match="network_map"):
        read_map([line])


def test_the_fake_fails_on_demand(leg: FencedRecords, instance: str) -> None:
    ports = FakePorts("kvm2")
    ports.networks["lab"] = True
    ports.fail_next("bind", PortBindingFailed("no"))
    with pytest.raises(PortBindingFailed):
        ports.bind(leg, instance, LAB, "kvm2")
    ports.bind(leg, instance, LAB, "kvm2")
