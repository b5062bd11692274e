"""Drivers are chosen by name; a wrong name is refused with the right ones."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
from stevedore.extension import ExtensionManager

from hostler import conf, drivers
from hostler.drivers.claims.fake import FakeClaims
from hostler.drivers.claims.records import RecordsClaims
from hostler.drivers.notifications.fake import FakeNotifications
from hostler.drivers.notifications.messaging import BrokerCourier, MessagingNotifications
from hostler.drivers.ports.fake import FakePorts
from hostler.drivers.ports.libvirt import LibvirtPorts
from hostler.drivers.volumes.fake import FakeVolumes
from hostler.drivers.volumes.network import NetworkVolumes
from hostler.errors import BadConfiguration


@pytest.mark.parametrize(
    ("kind", "name", "made"),
    [
        ("claims", "records", RecordsClaims),
        ("claims", "fake", FakeClaims),
        ("ports", "libvirt", LibvirtPorts),
        ("ports", "fake", FakePorts),
        ("volumes", "network", NetworkVolumes),
        ("volumes", "fake", FakeVolumes),
        ("notifications", "log", MessagingNotifications),
        ("notifications", "noop", MessagingNotifications),
        ("notifications", "fake", FakeNotifications),
        ("notifications", "messagingv2", BrokerCourier),
    ],
)
def test_a_name_gives_its_driver(kind: str, name: str, made: type) -> None:
    settings = conf.load([])
    settings.set_override("transport_url", "rabbit://127.0.0.1:1/", "notifications")
    assert type(drivers.load(kind, name)(settings)) is made


@pytest.mark.parametrize("kind", drivers.KINDS)
def test_a_wrong_name_is_refused_with_the_right_ones(kind: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        drivers.load(kind, "pigeon")
    assert str(refused.value).startswith(f"[drivers] {kind}: no driver is called 'pigeon'; there are: ")


def test_a_wrong_name_of_a_known_kind_names_the_others() -> None:
    with pytest.raises(BadConfiguration, match=r"there are: fake, placement, records$"):
        drivers.load("claims", "")


def test_a_driver_whose_libraries_are_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "hostler_has_no.such_module:from_conf", "hostler.claims")
    monkeypatch.setattr("hostler.plugins.entry_points", lambda group: [broken])
    monkeypatch.setitem(ExtensionManager.ENTRY_POINT_CACHE, "hostler.claims", [broken])
    with pytest.raises(BadConfiguration, match="the driver 'broken' cannot be loaded: No module named"):
        drivers.load("claims", "broken")
