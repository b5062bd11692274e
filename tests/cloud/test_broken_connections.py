"""What TaskFlow puts on record of a step that a service of the cloud has failed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import urllib3
from taskflow.types.failure import Failure

from hostler import conf as settings
from hostler.drivers.cloud import CloudService
from hostler.drivers.cloud_failures import failing
from hostler.errors import CloudServiceFailed


def test_a_connection_that_is_reset_is_a_failure_that_can_be_put_on_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Reset:
        def request(self, *_: Any, **__: Any) -> None:
            cause = ConnectionResetError(104, "Connection reset by peer")
            raise requests.ConnectionError(urllib3.exceptions.ProtocolError("Connection aborted.", cause))

    service = CloudService(settings.load(["/dev/null"]), "Neutron", "network")
    monkeypatch.setattr(service, "_client", Reset())
    try:
        with failing("Neutron"):
            service.ask("GET", "/")
    except CloudServiceFailed:
        assert "Neutron does not answer" in json.dumps(Failure().to_dict())
