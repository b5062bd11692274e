"""Hosts whose networks and bridges are called otherwise: the request says how, and the way back has the old names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from hostler.errors import MigrationError, MigrationPreCheckError, NetworksNotMapped
from hostler.flows import shape_of
from hostler.records import moves
from hostler.records.models import Binding, Host, Migration
from tests.support.world import World, failing, step

ASKED = {":br0": ":br-lan"}
STEPS = [one.name for one in shape_of("cold_migration")]
#: From the first that knows of ports to the last that is undone.
CONCERNED = STEPS[STEPS.index("ReservePorts") : STEPS.index("HandOver")]


@pytest.fixture
def other(world: World) -> World:
    """web1 is plugged into br0, which kvm2 calls br-lan."""
    world.hosts["kvm2"].hypervisor.bridges = {"br-lan"}
    world.report("kvm2")
    return world


@pytest.fixture
def three(tmp_path: Path, zookeeper_hosts: str) -> Iterator[World]:
    """One host more."""
    made = World(tmp_path, zookeeper_hosts, f"sqlite:///{tmp_path}/hostler.db", hosts=3)
    yield made
    made.close()


def plugged(world: World, host: str, server: str) -> list[str | None]:
    return [port.source for port in world.hosts[host].hypervisor.describe(server).ports]


def ask(world: World, asked: dict[str, str], dest: str | None = "kvm2") -> Migration:
    number = world.client.migrate("web1", dest, networks=asked, requested_by="tester")
    world.run()
    return world.migration(number)


def test_it_is_plugged_into_what_the_request_names_and_comes_back_to_what_it_had(other: World) -> None:
    server = other.add_server()
    xml = other.hosts["kvm1"].hypervisor.describe(server).xml
    assert ask(other, ASKED).outcome == "success"
    assert plugged(other, "kvm2", server) == ["br-lan"]
    with other.database.reading() as session:
        names = {row.host: row.network for row in session.scalars(select(Binding))}
    assert names == {"kvm1": "bridge:br0", "kvm2": "bridge:br-lan"}
    other.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    other.run()
    assert other.hosts["kvm1"].hypervisor.describe(server).xml == xml


def test_a_confirmed_one_keeps_its_new_name_and_is_moved_back_under_its_old_one(other: World) -> None:
    server = other.add_server()
    ask(other, ASKED)
    other.client.confirm("web1", requested_by="tester")
    other.run()
    assert plugged(other, "kvm2", server) == ["br-lan"]
    refused = other.migrate("web1", "kvm1")
    assert (refused.outcome, refused.hint) == ("refused", "hostler host show kvm1")
    assert "kvm1 has no bridge br-lan" in str(refused.error)
    assert ask(other, {"bridge:br-lan": "bridge:br0"}, "kvm1").outcome == "success"
    assert plugged(other, "kvm1", server) == ["br0"]


@pytest.mark.parametrize("name", CONCERNED)
def test_whichever_step_fails_it_is_plugged_in_as_it_was(other: World, name: str) -> None:
    other.add_server()
    before = other.look()
    with failing(step("cold_migration", name), MigrationError("on purpose"), when="after"):
        assert ask(other, ASKED).outcome == "reverted"
    assert other.look() == before


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (ASKED | {":lab": ":default"}, "--map-network names lab, which no interface of the server"),
        ({"network:br0": "network:x"}, "--map-network names network:br0, which no interface of the server"),
        ({":br0": ":br9"}, "kvm2 has no bridge br9"),
        ({":br0": ":../../etc"}, "kvm2 has no bridge ../../etc"),
    ],
)
def test_what_nobody_uses_or_the_host_lacks_is_refused_before_anything_is_touched(
    other: World, asked: dict[str, str], sentence: str
) -> None:
    server = other.add_server()
    before = other.look()
    refused = ask(other, asked)
    assert refused.outcome == "refused"
    assert sentence in str(refused.error)
    assert other.look() == before
    assert other.hosts["kvm1"].hypervisor.booted[server] == 1


def test_a_dry_run_says_what_networks_are_called_there(other: World) -> None:
    other.add_server()
    number = other.client.dry_run("web1", "kvm2", networks=ASKED, requested_by="tester")
    other.run()
    report = other.migration(number).report or {}
    assert (report["dest"], report["networks"]) == ([], {"bridge:br0": "bridge:br-lan"})


def test_a_worker_that_would_pass_over_it_is_refused_at_once(other: World) -> None:
    other.add_server()
    with other.database.transaction() as session:
        known = session.get_one(Host, "kvm2").capabilities or {}
        old = {key: value for key, value in known.items() if key != "maps_networks"}
        session.execute(update(Host).where(Host.name == "kvm2").values(capabilities=old))
    for ask_for in (other.client.migrate, other.client.dry_run):
        with pytest.raises(NetworksNotMapped, match="older version"):
            ask_for("web1", "kvm2", networks=ASKED, requested_by="tester")


def test_where_it_stays_it_keeps_its_networks(other: World) -> None:
    other.add_server(sized=True)
    with pytest.raises(NetworksNotMapped, match="keeps its networks"):
        other.client.resize("web1", "large", "kvm1", networks=ASKED, requested_by="tester")


def test_the_host_that_is_chosen_has_it(other: World) -> None:
    server = other.add_server()
    found = {one.host: one.reason for one in other.client.candidates("web1", networks=ASKED)}
    assert found == {"kvm1": "the server is on it, and keeps its networks there", "kvm2": None}
    assert ask(other, ASKED, None).outcome == "success"
    assert plugged(other, "kvm2", server) == ["br-lan"]


def test_the_next_attempt_asks_for_the_same(three: World) -> None:
    server = three.add_server()
    for host in ("kvm2", "kvm3"):
        three.hosts[host].hypervisor.bridges = {"br-lan"}
        three.report(host)
    lost = MigrationPreCheckError(["its disk is full"], host="kvm2")
    with failing(step("cold_migration", "CheckDestination"), lost, when="before"):
        first = ask(three, ASKED, None)
    assert first.outcome == "refused"
    with three.database.reading() as session:
        second = moves.successor(session, first.uuid)
    assert second is not None
    assert (second.outcome, second.network_map) == ("success", ASKED)
    assert plugged(three, second.dest_compute, server) == ["br-lan"]


def test_a_resize_takes_it_along(other: World) -> None:
    server = other.add_server(sized=True)
    number = other.client.resize("web1", "large", "kvm2", networks=ASKED, requested_by="tester")
    other.run()
    assert other.migration(number).outcome == "success"
    assert plugged(other, "kvm2", server) == ["br-lan"]
