"""A Neutron in memory, for tests: two-sided bindings, and its habits of unbinding and of losing ports."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hostler.drivers.failures import Failures
from hostler.drivers.ports.bindings import BINDING_FAILED, UNBOUND, CannotBind, HostBinding, NetworkPort
from hostler.errors import CloudServiceRefused


class FakeNetworkService(Failures):
    """The :class:`~hostler.drivers.ports.bindings.NetworkService` of a Neutron that is not there."""

    def __init__(self, *hosts: str) -> None:
        super().__init__()
        self.hosts = set(hosts)  #: that can bind
        self.ports: dict[str, NetworkPort] = {}
        self.extended = True  #: whether there is ``binding-extended``

    def add_port(
        self, mac: str, device: str, host: str, owner: str = "compute:nova", **facts: Any
    ) -> NetworkPort:
        """Make a port that is bound to *host*; *facts*: of its binding."""
        bound = replace(self._bound(HostBinding(host, active=True)), **facts)
        made = NetworkPort(str(uuid.uuid4()), mac, device, owner, (bound,))
        self.ports[made.id] = made
        return made

    def plug(self, uuid: str, *, up: bool = True) -> None:
        """Say that it is plugged in, or *up* no more."""
        self.ports[uuid] = replace(self._get(uuid), up=up)

    def lose_next(self, call: str, error: BaseException) -> None:
        """Let the next such change be made, and raise *error* then."""
        self.fail_next(f"{call} done", error)

    def two_sided(self) -> bool:
        """Tell whether it is extended."""
        self._meet("two_sided")
        return self.extended

    def ports_of(self, mac: str) -> list[NetworkPort]:
        """Return them."""
        self._meet("ports_of")
        return [port for port in self.ports.values() if port.mac == mac]

    def port(self, uuid: str) -> NetworkPort | None:
        """Return it."""
        self._meet("port")
        return self.ports.get(uuid)

    def add_binding(self, uuid: str, host: str, vnic_type: str, profile: Mapping[str, Any]) -> None:
        """Make it, if *host* can bind; the only one is active at once."""
        self._meet("add_binding")
        port = self._get(uuid)
        if port.at(host) is None:
            made = self._bound(
                HostBinding(host, port.active is None, vnic_type=vnic_type, profile=dict(profile))
            )
            if made.vif_type == BINDING_FAILED:
                raise CannotBind(f"Binding for port {uuid} on host {host} could not be created or updated.")
            self._keep(port, [*port.bindings, made])
        self._meet("add_binding done")

    def activate(self, uuid: str, host: str) -> None:
        """Change which is active; the other is unbound, and stays that when its turn comes again."""
        self._meet("activate")
        port = self._get(uuid)
        if port.at(host) is None:
            raise CloudServiceRefused(service="Neutron", reason=f"404: no binding to {host}")
        self._keep(port, [_activated(one, host) for one in port.bindings])
        self._meet("activate done")

    def drop_binding(self, uuid: str, host: str) -> None:
        """Drop it, whatever it is."""
        self._meet("drop_binding")
        if port := self.ports.get(uuid):
            self._keep(port, [one for one in port.bindings if one.host != host])
        self._meet("drop_binding done")

    def move(self, uuid: str, host: str, profile: Mapping[str, Any]) -> None:
        """Change the active binding; where that cannot be bound, the port says so."""
        self._meet("move")
        port = self._get(uuid)
        if port.active is None:
            raise CloudServiceRefused(service="Neutron", reason=f"404: port {uuid} could not be found")
        bound = self._bound(replace(port.active, host=host, profile=dict(profile)))
        self._keep(port, [bound if one.active else one for one in port.bindings])
        self._meet("move done")

    def _get(self, uuid: str) -> NetworkPort:
        if uuid not in self.ports:
            raise CloudServiceRefused(service="Neutron", reason=f"404: port {uuid} could not be found")
        return self.ports[uuid]

    def _keep(self, port: NetworkPort, bindings: list[HostBinding]) -> None:
        self.ports[port.id] = replace(port, bindings=tuple(bindings))

    def _bound(self, binding: HostBinding) -> HostBinding:
        if binding.host not in self.hosts or binding.vnic_type != "normal":
            return replace(binding, vif_type=BINDING_FAILED if binding.host else UNBOUND, details={})
        return replace(binding, vif_type="ovs", details={"bridge_name": "br-int", "ovs_hybrid_plug": False})


def _activated(binding: HostBinding, host: str) -> HostBinding:
    if binding.host == host:
        return replace(binding, active=True)
    return replace(binding, active=False, vif_type=UNBOUND, details={}) if binding.active else binding
