"""Volumes that QEMU reaches over the network by itself: nothing is attached to the host, nothing is copied.

What is left to do is to look: whether the servers answer here before a guest is sent, whether the guest's process has
let go before it starts elsewhere, and whether nobody has locked what it is about to write to.
"""

from __future__ import annotations

import shlex
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from oslo_config import cfg

from hostler.drivers.libvirt_facts import LibvirtFacts
from hostler.drivers.volumes import Astray
from hostler.drivers.volumes.addresses import Address, addresses
from hostler.drivers.volumes.holders import holders
from hostler.drivers.volumes.rbd import Lock, Locks, RbdLocks
from hostler.errors import HostlerError, MigrationError, Park, VolumeUnreachable, and_then
from hostler.objects import Domain, Secret, Volume
from hostler.records.fence import FencedRecords

#: QEMU only reads over these, so that any number of guests may hold the same volume.
READ_ONLY = ("http", "https", "ftp", "ftps", "tftp")
CONNECT_TIMEOUT_S = 3.0
#: How long a lock may outlast its holder: Ceph believes for 30 s in a client that died (osd_client_watch_timeout).
LOCK_PATIENCE_S = 45.0
LOCK_PAUSE_S = 1.0


class NetworkVolumes:
    """The :class:`~hostler.drivers.volumes.Volumes` of QEMU's own network clients.

    *secret_problem*: tells why a guest could not use a secret of libvirt's, or nothing. *holders*: returns the
    processes of this host that have a volume open. *locks*: tells who has locked one, wherever that is. *host*: its
    name in sentences.
    """

    def __init__(
        self,
        secret_problem: Callable[[Secret], str],
        holders: Callable[[Volume], list[int]],
        locks: Locks,
        host: str,
        timeout_s: float = CONNECT_TIMEOUT_S,
        patience_s: float = LOCK_PATIENCE_S,
    ) -> None:
        self._secret_problem = secret_problem
        self._holders = holders
        self._locks = locks
        self._host = host
        self._timeout_s = timeout_s
        self._patience_s = patience_s

    def recognise(self, domain: Domain) -> Domain:
        """Return *domain* as it is: nothing is attached to the host."""
        return domain

    def destination_problems(self, domain: Domain) -> list[str]:
        """Return, as sentences, which volumes this host could not use, and why."""
        return [
            f"volume {called(volume)} cannot be reached from {self._host}: {reason}"
            for volume in domain.volumes
            if volume.path is None
            for reason in self._why(volume)
        ]

    def reserve(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Do nothing: whoever reaches a volume has it."""

    def release(self, records: FencedRecords, instance: str, volume: Volume) -> None:
        """Do nothing."""

    def connect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """See that the volume's servers answer, that its secrets are here, and that nobody has it locked.

        A lock whose client is gone, and which Ceph keeps all the same, is not broken: :class:`~hostler.errors.Park`.
        """
        if reasons := list(self._why(volume)):
            raise VolumeUnreachable(volume=called(volume), host=self._host, reason="; ".join(reasons))
        if not volume.shared:
            self._see_released(records, volume)

    def disconnect(
        self, records: FencedRecords, instance: str, volume: Volume, *, undoing: bool = False
    ) -> None:
        """See that no process holds *volume*; :class:`~hostler.errors.MigrationError` names those that do."""
        if volume.shared or volume.protocol in READ_ONLY:
            return
        if pids := self._holders(volume):
            raise in_use(volume, self._host, pids)

    def restore(self, records: FencedRecords, instance: str, volumes: Sequence[Volume]) -> bool:
        """Return that nothing was: nothing is attached to the host."""
        return False

    def mapping(self, records: FencedRecords, volumes: Sequence[Volume]) -> Mapping[str, Volume]:
        """Return nothing: a volume is called the same everywhere."""
        return {}

    def astray(self, domain: Domain, host: str) -> list[Astray]:
        """Return nothing: nobody writes down who has a volume."""
        return []

    def _why(self, volume: Volume) -> Iterator[str]:
        yield from filter(None, map(self._secret_problem, dict.fromkeys(volume.secrets)))
        if servers := addresses(volume):
            with ThreadPoolExecutor(len(servers)) as threads:
                answers = list(threads.map(self._answer, servers))
            if all(answers):
                yield f"{'; '.join(answers)} ({_ask(servers[0])} asks again)"
                return
        if not volume.shared:
            try:
                self._locks.of(volume)
            except HostlerError as error:
                yield str(error)

    def _see_released(self, records: FencedRecords, volume: Volume) -> None:
        """Wait until nobody has *volume* locked, as long as Ceph may believe in a client that has died."""
        deadline = time.monotonic() + self._patience_s
        while held := self._locks.of(volume):
            if time.monotonic() > deadline:
                raise self._locked(records, volume, held)
            records.see_valid()
            time.sleep(min(LOCK_PAUSE_S, self._patience_s))

    def _locked(self, records: FencedRecords, volume: Volume, held: Sequence[Lock]) -> BaseException:
        who = ", ".join(map(str, held))
        if any(lock.watched for lock in held):
            reason = f"it is locked by {who}, which has it open"
            return VolumeUnreachable(volume=called(volume), host=self._host, reason=reason)
        reason = (
            f"volume {called(volume)} is locked by {who}, which is gone: its lock is not broken by itself"
        )
        breaking = "; ".join(self._locks.breaking(volume, lock) for lock in held)
        again = f"hostler migration retry {records.migration}"
        return Park(reason, [and_then(f"on {self._host}: {breaking}", again)])

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
    libvirt = LibvirtFacts(conf.libvirt.uri)
    return NetworkVolumes(libvirt.secret_problem, holders, RbdLocks(libvirt.secret_value), conf.host)


def _ask(address: Address) -> str:
    """Return a command that asks for a connection."""
    if isinstance(address, str):
        return shlex.join(["nc", "-zvU", "--", address])
    return shlex.join(["nc", "-zv", "--", address[0], str(address[1])])


def in_use(volume: Volume, host: str, pids: Sequence[int]) -> MigrationError:
    """Return the error of a volume that processes of *host* have open."""
    processes = ", ".join(map(str, pids))
    message = f"volume {called(volume)} is still in use on {host} by process {processes}"
    return MigrationError(message, volume=volume.name, host=host, pids=pids)


def called(volume: Volume) -> str:
    """Return a volume's name in sentences."""
    return f"{volume.target} ({volume.protocol}:{volume.name})"
