"""Neutron as its REST interface gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests
from oslo_config import cfg

from hostler.drivers.cloud import CloudService
from hostler.drivers.ports import libvirt
from hostler.drivers.ports.bindings import CannotBind, HostBinding, NetworkPort
from hostler.drivers.ports.neutron import COMPUTE, NeutronPorts
from hostler.errors import CloudServiceRefused

#: Neutron's word for a host that cannot bind; it answers 500 with it.
CANNOT_BIND = "PortBindingError"


class NeutronApi:
    """The :class:`~hostler.drivers.ports.bindings.NetworkService` of a cloud."""

    def __init__(self, service: CloudService) -> None:
        self._service = service
        self._two_sided: bool | None = None

    def two_sided(self) -> bool:
        """Tell whether it has the extension; asked once."""
        if self._two_sided is None:
            answer = self._service.ask("GET", "/v2.0/extensions/binding-extended")
            if answer.status_code not in (200, 404):
                raise self._service.refused(answer)
            self._two_sided = answer.status_code == 200
        return self._two_sided

    def ports_of(self, mac: str) -> list[NetworkPort]:
        """Return the ports with that address."""
        found = self._read(self._service.ask("GET", f"/v2.0/ports?mac_address={quote(mac, safe='')}"))
        return [self._with_bindings(told) for told in found["ports"]]

    def port(self, uuid: str) -> NetworkPort | None:
        """Return the port; None if it is gone."""
        answer = self._service.ask("GET", f"/v2.0/ports/{uuid}")
        return None if answer.status_code == 404 else self._with_bindings(self._read(answer)["port"])

    def add_binding(self, uuid: str, host: str, vnic_type: str, profile: Mapping[str, Any]) -> None:
        """Make the binding; one that is there already is ours, whose answer was lost."""
        wanted = {"host": host, "vnic_type": vnic_type, "profile": dict(profile)}
        self._change("POST", f"/v2.0/ports/{uuid}/bindings", {"binding": wanted}, 201, 409)

    def activate(self, uuid: str, host: str) -> None:
        """Make it the active one; Neutron says 409 if it is that."""
        self._change("PUT", f"/v2.0/ports/{uuid}/bindings/{quote(host, safe='')}/activate", None, 200, 409)

    def drop_binding(self, uuid: str, host: str) -> None:
        """Drop it; 404 says that it is gone, or its port."""
        self._change("DELETE", f"/v2.0/ports/{uuid}/bindings/{quote(host, safe='')}", None, 204, 404)

    def move(self, uuid: str, host: str, profile: Mapping[str, Any]) -> None:
        """Change where it is."""
        wanted = {"binding:host_id": host, "binding:profile": dict(profile)}
        self._change("PUT", f"/v2.0/ports/{uuid}", {"port": wanted}, 200)

    def _change(self, method: str, path: str, body: Any, *expected: int) -> None:
        answer = self._service.ask(method, path, body, is_answer=_cannot_bind)
        if _cannot_bind(answer):
            raise CannotBind(self._service.sentence(answer))
        if answer.status_code not in expected:
            raise self._service.refused(answer)

    def _read(self, answer: requests.Response) -> Any:
        if answer.status_code != 200:
            raise self._service.refused(answer)
        return answer.json()

    def _with_bindings(self, told: Mapping[str, Any]) -> NetworkPort:
        if self.two_sided() and str(told["device_owner"]).startswith(COMPUTE):
            answer = self._service.ask("GET", f"/v2.0/ports/{told['id']}/bindings")
            bindings = [_binding(one) for one in self._read(answer)["bindings"]]
        elif "binding:host_id" in told:
            bindings = [_own(told)]
        else:
            reason = "it does not tell where ports are bound: these credentials are not an administrator's"
            raise CloudServiceRefused(service="Neutron", reason=reason)
        up = told.get("status") == "ACTIVE" or told.get("admin_state_up") is False
        return NetworkPort(
            told["id"], told["mac_address"], told["device_id"], told["device_owner"], bindings, up
        )


def from_conf(conf: cfg.ConfigOpts) -> NeutronPorts:
    """Make the driver of the settings."""
    service = NeutronApi(CloudService(conf, "Neutron", "network"))
    local = libvirt.from_conf(conf)
    return NeutronPorts(
        service, conf.host, local.sources, libvirt.device_exists, conf.openstack.network_hosts
    )


def _binding(told: Mapping[str, Any]) -> HostBinding:
    return HostBinding(
        host=told["host"],
        active=told["status"] == "ACTIVE",
        vif_type=told["vif_type"],
        vnic_type=told["vnic_type"],
        profile=told["profile"] or {},
        details=told["vif_details"] or {},
    )


def _own(port: Mapping[str, Any]) -> HostBinding:
    """Return the active binding as the port itself tells it."""
    facts = {name: port[f"binding:{name}"] for name in ("vif_type", "vnic_type", "profile", "vif_details")}
    return _binding({"host": port["binding:host_id"], "status": "ACTIVE", **facts})


def _cannot_bind(answer: requests.Response) -> bool:
    """Tell whether it is Neutron's verdict on a host, which only looks like a failure."""
    if answer.status_code != 500:
        return False
    try:
        return bool(answer.json()["NeutronError"]["type"] == CANNOT_BIND)
    except (ValueError, LookupError, TypeError):
        return False
