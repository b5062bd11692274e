"""Volumes that QEMU reaches over the network by itself: nothing is attached to the host, nothing is copied.

What is left to do is to look: whether the servers answer here before a guest is sent, and whether the guest's
process has let go before it starts elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from oslo_config import cfg

from hostler.drivers.libvirt_facts import LibvirtFacts
from hostler.drivers.volumes import Astray
from hostler.drivers.volumes.addresses import Address, addresses
from hostler.drivers.volumes.holders import holders
from hostler.errors import MigrationError, VolumeUnreachable
from hostler.objects import Domain, Volume
from hostler.records.fence import FencedRecords

#: QEMU only reads over these, so that any number of guests may hold the same volume.
READ_ONLY = ("http", "https", "ftp", "ftps", "tftp")
CONNECT_TIMEOUT_S = 3.0


class NetworkVolumes:
    """The :class:`~hostler.drivers.volumes.Volumes` of QEMU's own network clients.

    *secret_exists*: tells whether libvirt has the secret of that UUID. *holders*: returns the processes of
    this host that have a volume open. *host*: its name in sentences.
    """

    def __init__(
        self,
        secret_exists: Callable[[str], bool],
        holders: Callable[[Volume], list[int]],
        host: str,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._secret_exists = secret_exists
        self._holders = holders
        self._host = host
        self._timeout_s = timeout_s

    def destination_problems(self, domain: Domain) -> list[str]:
        """Return, as sentences, which volumes this host could not use, and why."""
        return [
            f"volume {called(volume)} cannot be reached from {self._host}: {reason}"
            for volume in domain.volumes
            for reason in self._why(volume)
        ]

    def reserve(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Do nothing: whoever reaches a volume has it."""

    def release(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Do nothing."""

    def connect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """See that the volume's servers answer, and that its secret is here."""
        if reasons := list(self._why(volume)):
            raise VolumeUnreachable(volume=called(volume), host=self._host, reason="; ".join(reasons))

    def disconnect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """See that no process holds *volume*; :class:`~hostler.errors.MigrationError` names those that do."""
        if volume.protocol in READ_ONLY:
            return
        if pids := self._holders(volume):
            processes = ", ".join(map(str, pids))
            message = f"volume {called(volume)} is still in use on {self._host} by process {processes}"
            raise MigrationError(message, volume=volume.name, host=self._host, pids=pids)

    def mapping(self, records: FencedRecords, volumes: Sequence[Volume]) -> Mapping[str, Volume]:
        """Return nothing: a volume is called the same everywhere."""
        return {}

    def astray(self, domain: Domain, host: str) -> list[Astray]:
        """Return nothing: nobody writes down who has a volume."""
        return []

    def _why(self, volume: Volume) -> Iterator[str]:
        if volume.secret_uuid and not self._secret_exists(volume.secret_uuid):
            yield f"libvirt has no secret {volume.secret_uuid}; virsh secret-define makes one"
        if servers := addresses(volume):
            with ThreadPoolExecutor(len(servers)) as threads:
                answers = list(threads.map(self._answer, servers))
            if all(answers):
                yield "; ".join(answers)

    def _answer(self, address: Address) -> str:
        """Return why *address* takes no connection, or nothing."""
        where = address if isinstance(address, str) else f"{address[0]} port {address[1]}"
        try:
            if isinstance(address, str):
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(self._timeout_s)
                    connection.connect(address)
            else:
                socket.create_connection(address, self._timeout_s).close()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return f"{where}: {reason}"
        return ""


def from_conf(conf: cfg.ConfigOpts) -> NetworkVolumes:
    """Make the driver of the settings."""
    return NetworkVolumes(LibvirtFacts(conf.libvirt.uri).secret_exists, holders, conf.host)


def called(volume: Volume) -> str:
    """Return a volume's name in sentences."""
    return f"{volume.target} ({volume.protocol}:{volume.name})"
