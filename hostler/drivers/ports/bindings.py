"""What hostler asks of Neutron, and how Neutron tells it: ports, and to which hosts each is bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

#: How Neutron calls a host on which the port is not, and one on which it cannot be.
UNBOUND, BINDING_FAILED = "unbound", "binding_failed"
#: VIF types that libvirt can plug in by itself from what the definition says.
PLUGGABLE = ("ovs", "bridge")


class CannotBind(Exception):
    """No mechanism driver of Neutron can bind the port to that host. Nothing was changed."""


@dataclass(frozen=True)
class HostBinding:
    """One place of a port."""

    host: str
    active: bool
    vif_type: str = UNBOUND
    vnic_type: str = "normal"
    profile: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)  #: how it is plugged in: ``bridge_name``, ...

    @property
    def bridge(self) -> str | None:
        """The bridge that libvirt plugs it into; None if Neutron names none."""
        return self.details.get("bridge_name") or ("br-int" if self.vif_type == "ovs" else None)


@dataclass(frozen=True)
class NetworkPort:
    """A port as Neutron has it."""

    id: str
    mac: str
    device: str  #: UUID of the server
    owner: str  #: ``compute:nova``, ``network:dhcp``, ...
    bindings: Sequence[HostBinding] = ()
    up: bool = False  #: it is plugged in, or nobody wants it to be (``admin_state_up``)

    @property
    def active(self) -> HostBinding | None:
        """Where it is."""
        return next((one for one in self.bindings if one.active), None)

    def will_be_announced(self, host: str) -> bool:
        """Tell whether Neutron will say that it is plugged in on *host*, once it is; Nova's rules.

        Of one that is up already Neutron says nothing any more; of one with a bridge of its own (``ovs_hybrid_plug``)
        when it is bound, and not when it is plugged in.
        """
        binding = self.active
        if self.up or binding is None or binding.host != host or binding.vif_type not in PLUGGABLE:
            return False
        return not binding.details.get("ovs_hybrid_plug")

    def at(self, host: str) -> HostBinding | None:
        """Return its binding to *host*."""
        return next((one for one in self.bindings if one.host == host), None)


class NetworkService(Protocol):
    """Neutron's own calls; asking twice is asking once.

    Each may raise :class:`~hostler.errors.ServerUnreachable`, done or not, and
    :class:`~hostler.errors.CloudServiceRefused`.
    """

    def two_sided(self) -> bool:
        """Tell whether a port may be bound to several hosts (the extension ``binding-extended``)."""

    def ports_of(self, mac: str) -> list[NetworkPort]:
        """Return the ports with that address; it is unique in its network alone."""

    def port(self, uuid: str) -> NetworkPort | None:
        """Return the port; None if it is gone."""

    def add_binding(self, uuid: str, host: str, vnic_type: str, profile: Mapping[str, Any]) -> None:
        """Bind it to *host* as well; inactive, unless it has no active binding.

        :class:`CannotBind` if that cannot be.
        """

    def activate(self, uuid: str, host: str) -> None:
        """Make the binding to *host* the active one. :class:`CannotBind` if that cannot be."""

    def drop_binding(self, uuid: str, host: str) -> None:
        """Drop the binding to *host*, whatever it is: Neutron drops the only active one, too, and loses the port."""

    def move(self, uuid: str, host: str, profile: Mapping[str, Any]) -> None:
        """Make *host* its only place, where it may have no more than one."""
