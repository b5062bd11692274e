"""Placement as its REST interface gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests
from oslo_config import cfg

from hostler.drivers.claims.allocations import Allocation, ConcurrentUpdate, NoRoom, Room
from hostler.drivers.claims.placement import PlacementClaims
from hostler.drivers.claims.records import RecordsClaims
from hostler.drivers.cloud import CloudService
from hostler.errors import CloudServiceRefused

#: The first version at which a consumer has a type.
VERSION = "1.39"


class PlacementApi:
    """The :class:`~hostler.drivers.claims.allocations.PlacementService` of a cloud."""

    def __init__(self, service: CloudService) -> None:
        self._service = service

    def provider(self, name: str) -> str:
        """Return the uuid of the resource provider called *name*."""
        found = self._read(f"/resource_providers?name={quote(name, safe='')}")["resource_providers"]
        if not found:
            raise CloudServiceRefused(service="Placement", reason=f"no resource provider is called {name!r}")
        return str(found[0]["uuid"])

    def allocation(self, consumer: str) -> Allocation:
        """Return what *consumer* has."""
        told = self._read(f"/allocations/{consumer}")
        if not told["allocations"]:
            return Allocation()
        resources = {provider: one["resources"] for provider, one in told["allocations"].items()}
        return Allocation(
            resources,
            told["consumer_generation"],
            told["project_id"],
            told["user_id"],
            told["consumer_type"],
        )

    def allocate(self, wanted: Mapping[str, Allocation]) -> None:
        """Give it, in one request."""
        answer = self._service.ask("POST", "/allocations", {name: _body(one) for name, one in wanted.items()})
        if answer.status_code == 409:
            kind = ConcurrentUpdate if "placement.concurrent_update" in _codes(answer) else NoRoom
            raise kind(self._service.sentence(answer))
        if answer.status_code != 204:
            raise self._service.refused(answer)

    def room(self, provider: str) -> Mapping[str, Room]:
        """Return what *provider* has. What is given away is read last, so that what was taken before is in it."""
        inventories = self._read(f"/resource_providers/{provider}/inventories")["inventories"]
        used = self._read(f"/resource_providers/{provider}/usages")["usages"]
        return {kind: Room(_capacity(one), used.get(kind, 0)) for kind, one in inventories.items()}

    def consumers(self, provider: str) -> list[str]:
        """Return their uuids."""
        return sorted(self._read(f"/resource_providers/{provider}/allocations")["allocations"])

    def _read(self, path: str) -> Any:
        answer = self._service.ask("GET", path)
        if answer.status_code != 200:
            raise self._service.refused(answer)
        return answer.json()


def from_conf(conf: cfg.ConfigOpts) -> PlacementClaims:
    """Make the driver of the settings."""
    service = CloudService(conf, "Placement", "placement", VERSION)
    providers = conf.openstack.resource_providers
    return PlacementClaims(PlacementApi(service), RecordsClaims(), providers, conf.openstack.patience)


def _body(one: Allocation) -> dict[str, Any]:
    return {
        "allocations": {name: {"resources": dict(resources)} for name, resources in one.resources.items()},
        "consumer_generation": one.generation,
        "project_id": one.project,
        "user_id": one.user,
        "consumer_type": one.kind,
    }


def _codes(answer: requests.Response) -> set[str]:
    return {str(error.get("code")) for error in answer.json().get("errors", [])}


def _capacity(inventory: Mapping[str, Any]) -> int:
    return int((inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"])
