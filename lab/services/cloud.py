"""What the services of a cloud have in common: a database of their own, a place in ``clouds.yaml``, and JSON."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import requests

from lab.postgres import PostgreSQL
from lab.services.mariadb import MariaDB
from lab.services.service import Server

#: Sent with each request. Who may ask is not checked: this one is an administrator's.
TOKEN = "admin"


class CloudService(Server):
    """One of them."""

    kind: ClassVar[str]  #: its service type, as ``clouds.yaml`` writes it: ``block_storage``
    base: ClassVar[str] = ""  #: what its endpoint ends with
    version: ClassVar[str] = ""  #: the microversion that `request` asks for, with its kind: ``volume 3.54``

    def __init__(self, directory: Path, address: str = "", mariadb: MariaDB | None = None) -> None:
        super().__init__(directory, address)
        self._postgresql = PostgreSQL(directory / "postgresql", prefix=self._alone())
        #: Whoever gives one has its tables in it, and ends it.
        self._mariadb = mariadb

    @property
    def database(self) -> str:
        """SQLAlchemy's address of its tables."""
        return self._mariadb.url_of(self.name) if self._mariadb else self._postgresql.url()

    def clouds(self) -> Mapping[str, object]:
        """Return what an entry of ``clouds.yaml`` says of it."""
        return {
            "auth_type": "admin_token",
            "auth": {"endpoint": self.url, "token": TOKEN},
            f"{self.kind}_endpoint_override": f"{self.url}{self.base}",
        }

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask it as anybody would; the answer's JSON, or None if it says nothing."""
        headers = {"X-Auth-Token": TOKEN, "OpenStack-API-Version": self.version, **headers}
        answer = requests.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _prepare(self) -> None:
        if self._mariadb is None:
            self._postgresql.start()
        else:
            self._mariadb.create_database(self.name)
        self._configure()

    @abstractmethod
    def _configure(self) -> None:
        """Write its settings and make its tables."""

    def _release(self) -> None:
        self._postgresql.kill()
