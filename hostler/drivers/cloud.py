"""The services of an OpenStack cloud, as openstacksdk finds them by ``clouds.yaml``.

Needs the extra ``hostler[openstack]``: only the drivers named ``placement``, ``neutron`` and ``cinder`` import this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests
from keystoneauth1 import exceptions as refusals
from keystoneauth1.adapter import Adapter
from openstack import config as clouds
from openstack.exceptions import ConfigException
from oslo_config import cfg

from hostler.errors import BadConfiguration, CloudServiceRefused, ServerUnreachable

#: Answers after which the same request may go through.
PASSING = frozenset({429, 500, 502, 503, 504})
#: Seconds before a request is sent again; doubled each time.
RETRY_DELAY_S = 0.5


class CloudService:
    """One service: requests to it, each with a time limit, sent again a few times.

    *name*: in sentences. *kind*: its service type, ``placement``. *version*: its microversion, if it has any.
    """

    def __init__(self, conf: cfg.ConfigOpts, name: str, kind: str, version: str | None = None) -> None:
        self.name = name
        self._kind = kind
        self._version = version
        self._settings = conf.openstack
        self._client: Any = None

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        retries: int | None = None,
        as_service: bool = False,
        is_answer: Callable[[requests.Response], bool] = lambda _: False,
    ) -> requests.Response:
        """Return the answer, whatever it says short of a failure.

        *retries*: how often it is sent again, where that is not as the settings say. *as_service*: the token is sent
        as a service's, too, for what is left to services. *is_answer*: tells of a 5xx that it is one after all, where
        a service has no better word for no.
        :class:`~hostler.errors.ServerUnreachable` if there is none, or a 5xx after all retries: it may have been done
        all the same. :class:`~hostler.errors.CloudServiceRefused` if the service or its credentials are not there.
        """
        try:
            client = self._adapter()
            headers = {"X-Service-Token": client.get_token()} if as_service else {}
            answer: requests.Response = client.request(
                path, method, json=body, headers=headers, raise_exc=False, **self._manner(retries)
            )
        except (refusals.ConnectionError, requests.RequestException) as error:
            raise self._unreachable(str(error)) from error
        except (refusals.ClientException, ConfigException) as error:
            raise CloudServiceRefused(service=self.name, reason=str(error)) from error
        if answer.status_code in PASSING and not is_answer(answer):
            raise self._unreachable(self.sentence(answer))
        if answer.status_code in (401, 403):
            raise CloudServiceRefused(service=self.name, reason=self.sentence(answer))
        return answer

    def refused(self, answer: requests.Response) -> CloudServiceRefused:
        """Return the error for an answer that nobody expects."""
        return CloudServiceRefused(service=self.name, reason=self.sentence(answer))

    @staticmethod
    def sentence(answer: requests.Response) -> str:
        """Say in a line what was answered."""
        return f"{answer.status_code}: {' '.join(answer.text.split())[:500]}"

    def _manner(self, retries: int | None) -> dict[str, Any]:
        again = self._settings.retries if retries is None else retries
        manner = {
            "connect_retries": again,
            "connect_retry_delay": RETRY_DELAY_S,
            "status_code_retries": again,
            "status_code_retry_delay": RETRY_DELAY_S,
            "retriable_status_codes": sorted(PASSING),
        }
        return manner | ({"microversion": self._version} if self._version else {})

    def _unreachable(self, reason: str) -> ServerUnreachable:
        where = f"cloud {self._settings.cloud}"
        return ServerUnreachable(what=self.name, where=where, reason=reason)

    def _adapter(self) -> Any:
        """Return keystoneauth's adapter; a token that expires is renewed by it."""
        if self._client is None:
            settings, file = self._settings, self._settings.clouds_file
            try:
                found = clouds.OpenStackConfig(config_files=[file] if file else None)
                region = found.get_one(settings.cloud, api_timeout=settings.timeout)
            except ConfigException as error:
                raise BadConfiguration(where="[openstack] cloud", problem=str(error)) from error
            self._client = Adapter(
                region.get_session(),
                service_type=self._kind,
                interface=region.get_interface(self._kind),
                region_name=region.get_region_name(self._kind),
                endpoint_override=region.get_endpoint(self._kind),
            )
        return self._client
