"""Cinder as its REST interface gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from oslo_config import cfg

from hostler.drivers.cloud import CloudService
from hostler.drivers.volumes import network
from hostler.drivers.volumes.attachments import Attachment, BlockVolume
from hostler.drivers.volumes.brick import BrickConnector
from hostler.drivers.volumes.cinder import CinderVolumes

#: The first version at which an attachment is made with a mode.
VERSION = "3.54"


class CinderApi:
    """The :class:`~hostler.drivers.volumes.attachments.VolumeService` of a cloud."""

    def __init__(self, service: CloudService) -> None:
        self._service = service

    def volume(self, uuid: str) -> BlockVolume | None:
        """Return the volume; None if it is gone."""
        answer = self._service.ask("GET", f"/volumes/{uuid}")
        if answer.status_code == 404:
            return None
        told = self._read(answer)["volume"]
        places = {one["attachment_id"]: one for one in told["attachments"]}
        attachments = [_attachment(one, places.get(one["id"], {})) for one in self._list(f"volume_id={uuid}")]
        return BlockVolume(
            told["id"], told["status"], bool(told["multiattach"]), bool(told["encrypted"]), attachments
        )

    def attachments_of(self, server: str) -> list[Attachment]:
        """Return the attachments of a server."""
        found = self._list(f"instance_id={server}")  # an operator may have forbidden that filter
        return [_attachment(one, {}) for one in found if one["instance"] == server]

    def reserve(self, uuid: str, server: str, mode: str | None) -> None:
        """Make an empty attachment."""
        wanted = {"volume_uuid": uuid, "instance_uuid": server, **({"mode": mode} if mode else {})}
        self._change("POST", "/attachments", {"attachment": wanted}, 200)

    def connect(self, attachment: str, connector: Mapping[str, Any]) -> None:
        """Give it a connector."""
        self._change("PUT", f"/attachments/{attachment}", {"attachment": {"connector": dict(connector)}}, 200)

    def complete(self, attachment: str) -> None:
        """Say that it is used."""
        self._change("POST", f"/attachments/{attachment}/action", {"os-complete": {}}, 204)

    def drop(self, attachment: str) -> None:
        """Drop it, as a service does: of others Cinder would ask Nova whether they may. 404 says that it is gone."""
        self._change("DELETE", f"/attachments/{attachment}", None, 200, 404, as_service=True)

    def _list(self, wanted: str) -> list[dict[str, Any]]:
        answer = self._service.ask("GET", f"/attachments/detail?all_tenants=1&{wanted}")
        found: list[dict[str, Any]] = self._read(answer)["attachments"]
        return found

    def _change(self, method: str, path: str, body: Any, *expected: int, as_service: bool = False) -> None:
        answer = self._service.ask(method, path, body, as_service=as_service)
        if answer.status_code not in expected:
            raise self._service.refused(answer)

    def _read(self, answer: requests.Response) -> Any:
        if answer.status_code != 200:
            raise self._service.refused(answer)
        return answer.json()


def from_conf(conf: cfg.ConfigOpts) -> CinderVolumes:
    """Make the driver of the settings."""
    service = CinderApi(CloudService(conf, "Cinder", "block-storage", VERSION))
    settings, address = conf.openstack, conf.my_ip or conf.host
    connector = BrickConnector(
        settings.volume_hosts.get(conf.host, conf.host),
        address,
        settings.brick_lock_path,
        settings.nfs_mount_point_base,
        multipath=settings.volume_use_multipath,
        enforced=settings.volume_enforce_multipath,
    )
    return CinderVolumes(
        service, network.from_conf(conf), connector, conf.host, address, settings.volume_hosts
    )


def _attachment(told: Mapping[str, Any], place: Mapping[str, Any]) -> Attachment:
    return Attachment(
        id=told["id"],
        volume=told["volume_id"],
        server=told["instance"],
        status=told["status"],
        mode=told["attach_mode"] if told["attach_mode"] in ("rw", "ro") else None,
        host=place.get("host_name"),
        device=place.get("device"),
        connection=told["connection_info"] or {},
    )
