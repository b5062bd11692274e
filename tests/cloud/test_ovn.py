"""Ports in a real OVN with two chassis, which also falls silent in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hostler import conf as settings
from hostler import drivers
from hostler.drivers.ports import ovn_api
from hostler.drivers.ports.ovn import OvnPorts
from hostler.drivers.ports.ovn_api import OvsdbNorthbound
from hostler.errors import BadConfiguration, CloudServiceRefused, ServerUnreachable
from lab.process import wait_until
from lab.services import Ovn
from lab.services.ovn import HOSTS
from tests.support.cable import Cable
from tests.support.contracts.ovn import *  # noqa: F403 - the tests are the module's
from tests.support.contracts.ovn import World

#: What the driver waits for an answer of one that is silent.
SILENT_S = 1.5


class Mouthpiece(Cable):
    """A cable that can swallow what the database answers once a change has gone through it."""

    swallows = False
    _swallowing = False

    def _pump(self, one: Any, other: Any, open_ends: list[Any]) -> None:
        super()._pump(_Swallowing(self, one), other, open_ends)

    def passes(self, data: bytes) -> bytes:
        """Return what of *data* goes on."""
        if b'"transact"' in data and self.swallows:
            self.swallows, self._swallowing = False, True
        elif b'"result"' in data and self._swallowing:
            return b""
        return data

    def heal(self) -> None:
        """Let everything through."""
        self.pull()
        self.swallows = self._swallowing = False
        self.plug()


class _Swallowing:
    def __init__(self, cable: Mouthpiece, end: Any) -> None:
        self._cable, self._end = cable, end

    def recv(self, size: int) -> bytes:
        while data := self._end.recv(size):
            if passed := self._cable.passes(data):
                return passed
        return b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._end, name)

    def __eq__(self, other: object) -> bool:
        return other is self._end or other is self

    def __hash__(self) -> int:
        return hash(self._end)


class Troubled(OvsdbNorthbound):
    """The driver's own, whose database falls silent for the calls that a test names."""

    def __init__(self, cable: Mouthpiece, northbound: str, southbound: str) -> None:
        super().__init__(northbound, southbound, SILENT_S)
        self.cable = cable
        self.silent: list[str] = []
        self.old = False

    def port(self, name: str) -> Any:
        with self._silence("port"):
            return super().port(name)

    def ask_for(self, name: str, chassis: str, instead_of: str) -> None:
        with self._silence("ask_for"):
            super().ask_for(name, chassis, instead_of)

    def several(self) -> bool:
        return super().several() and not self.old

    @contextmanager
    def _silence(self, call: str) -> Iterator[None]:
        if call in self.silent:
            self.silent.remove(call)
            self.cable.pull()
        try:
            yield
        finally:
            self.cable.heal()


@dataclass
class Real:
    """A :class:`~tests.support.contracts.ovn.Stand`: ports of its own in the OVN that all tests share."""

    service: Troubled
    ovn: Ovn

    def add_port(self, name: str, mac: str, asks_for: str, **facts: str) -> None:
        self.ovn.add_port(name, mac, asks_for, **facts)

    def remove_port(self, name: str) -> None:
        self.ovn.nbctl("lsp-del", name)

    def set_request(self, name: str, chassis: str) -> None:
        self.ovn.nbctl("set", "Logical_Switch_Port", name, f'options:requested-chassis="{chassis}"')

    def fail_next(self, call: str, times: int) -> None:
        self.service.silent += [call] * times

    def lose_next_answer(self, call: str) -> None:
        self.service.cable.swallows = True

    def grow_old(self) -> None:
        self.service.old = True


@pytest.fixture(scope="module")
def real_ovn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ovn]:
    with Ovn(tmp_path_factory.mktemp("services") / "ovn") as service:
        yield service


@pytest.fixture
def ovn(real_ovn: Ovn) -> Iterator[Real]:
    with Mouthpiece("127.0.0.1", real_ovn.port) as cable:
        service = Troubled(cable, f"tcp:127.0.0.1:{cable.port}", real_ovn.southbound)
        yield Real(service, real_ovn)


def taken_by(ovn: Ovn, name: str, host: str | None) -> None:
    """Wait until the chassis has the port, or none has."""
    wait_until(lambda: ovn.chassis_of(name) == host, f"{name} to be taken by {host}", 60, pause_s=0.05)


def settled(ovn: Ovn) -> None:
    """Wait until all chassis have heard of everything that the northbound database says."""
    ovn.nbctl("--wait=hv", "sync")


def test_a_port_goes_with_its_guest_and_nobody_else_takes_it(world: World, real_ovn: Ovn) -> None:
    name = str(world.ports[0].interface)
    real_ovn.plug("kvm1", name)
    taken_by(real_ovn, name, "kvm1")
    world.reserve()
    settled(real_ovn)
    assert real_ovn.chassis_of(name) == "kvm1", "the guest still runs there"
    real_ovn.unplug("kvm1", name)
    world.bind()
    taken_by(real_ovn, name, None)
    real_ovn.plug("kvm2", name)
    taken_by(real_ovn, name, "kvm2")
    world.settle()
    settled(real_ovn)
    assert real_ovn.chassis_of(name) == "kvm2"
    real_ovn.unplug("kvm2", name)
    real_ovn.plug("kvm1", name)
    taken_by(real_ovn, name, None)
    settled(real_ovn)
    assert real_ovn.chassis_of(name) is None, "it is kvm2's alone"
    real_ovn.unplug("kvm1", name)


def test_a_port_that_came_back_is_its_hosts_as_before(world: World, real_ovn: Ovn) -> None:
    name = str(world.ports[0].interface)
    real_ovn.plug("kvm2", name)
    settled(real_ovn)
    assert real_ovn.chassis_of(name) is None, "it asks for kvm1"
    world.bind()
    taken_by(real_ovn, name, "kvm2")
    world.unbind()
    taken_by(real_ovn, name, None)
    real_ovn.plug("kvm1", name)
    taken_by(real_ovn, name, "kvm1")
    for host in HOSTS:
        real_ovn.unplug(host, name)


def test_a_database_that_takes_requests_and_is_silent_is_not_waited_for_for_ever(
    world: World, ovn: Real
) -> None:
    before = world.everything
    ovn.lose_next_answer("ask_for")
    with pytest.raises(ServerUnreachable, match="OVN_Northbound does not answer at tcp:"):
        ovn.service.ask_for(str(world.ports[0].interface), "kvm1,kvm2", "kvm1")
    assert world.asked[0] == "kvm1,kvm2", "it was done all the same"
    ovn.service.ask_for(str(world.ports[0].interface), "kvm1", "kvm1,kvm2")
    assert world.everything == before


def test_a_database_of_another_kind_is_told_by_its_words(real_ovn: Ovn) -> None:
    swapped = OvsdbNorthbound(real_ovn.southbound, real_ovn.northbound, SILENT_S)
    with pytest.raises((CloudServiceRefused, ServerUnreachable), match="OVN_Northbound"):
        swapped.port("any")


def test_many_questions_leave_nothing_open(real_ovn: Ovn) -> None:
    service = OvsdbNorthbound(real_ovn.northbound, real_ovn.southbound, 20)
    service.port("any")
    before = _open_files()
    for _ in range(20):
        service.port("any")
        service.several()
    assert _open_files() <= before + 2


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_driver_of_the_settings_asks_the_databases_that_they_name(real_ovn: Ovn) -> None:
    conf = settings.load(["/dev/null"])
    with pytest.raises(BadConfiguration, match="northbound is not set"):
        drivers.load("ports", "ovn")(conf)
    conf.set_override("northbound", real_ovn.northbound, "ovn")
    conf.set_override("southbound", "ssl:127.0.0.1:1", "ovn")
    with pytest.raises(BadConfiguration, match="private_key is not set, which ssl: needs"):
        drivers.load("ports", "ovn")(conf)
    conf.set_override("southbound", real_ovn.southbound, "ovn")
    made = drivers.load("ports", "ovn")(conf)
    assert type(made) is OvnPorts
    assert made.astray("nobody", [], "kvm1") == []
    assert ovn_api.REQUESTED == "requested-chassis"
