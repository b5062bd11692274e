"""The destination's end: one nbdkit per migration, and one beside it for blocks that travel packed.

On disk::

    <state_dir>/<migration>/receiver.json   what is open, for whom, and which process does it
                            key.psk         the TLS key; copy.json is in its place where both ends show certificates
                            receiver.log    what nbdkit says
                            unpacker.json   which process takes packed blocks, and at which port; with a log, too
                            N.manifest      the block manifest that the source sends after export N
                            N.ledger        which blocks of export N have arrived, written by the source
                            N.check         what the source asks about export N, and the worker's answer
    <run_dir>/<migration>/key.psk           the key, for nbdkit's user; or x509/, with this host's certificate and key
                          exports/          links N, N.manifest, N.ledger, N.check: what nbdkit offers
                                  boot      what changes when this host reboots
                                  packed    at which port blocks may travel packed
                          plugin/           what the second nbdkit runs
                          NAME.ready/pid    nbdkit is ready when it is there
                          yard/             where its room is furnished
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hostler import errors
from hostler.drivers import processes as process
from hostler.drivers.images import (
    UNPROVEN,
    Checkpoint,
    check,
    confined,
    found,
    parts,
    recorded,
    state,
    tls,
    unpacking,
    x509,
)
from hostler.drivers.images.checker import Asked, Checker
from hostler.drivers.images.recorded import Receiving
from hostler.drivers.images.serving import Servers, Service
from hostler.objects import Export, Identity, ReceiverAddress


class NbdReceiver:
    """Runs nbdkit's ``file`` plugin over TLS, one process per migration, on a port of *ports*.

    With *unpack* there is a second process for each, on a port of its own, which takes packed blocks.
    """

    def __init__(
        self,
        state_dir: Path | str,
        run_dir: Path | str,
        address: str,
        ports: tuple[int, int],
        nbdkit: str = "nbdkit",
        *,
        encrypt: bool = True,
        confine: bool = True,
        certificates: x509.Files | None = None,
        unpack: bool = False,
    ) -> None:
        self._state_dir = state.private_directory(Path(state_dir))
        self._run_dir = state.private_directory(Path(run_dir))
        self._boot = state.boot(self._run_dir)
        self._address = address
        self._ports = range(ports[0], ports[1] + 1)
        self._keys: tls.Keys = tls.SharedKeys() if encrypt else tls.NoKeys()
        if certificates is not None:
            self._keys = x509.CopyCertificates(certificates, address)
        self._certified = certificates is not None
        self._nbdkit = nbdkit
        self._servers = Servers(address, nbdkit, self._keys, confine=confine)
        self._unpackers = unpacking.Unpackers(self._servers) if unpack else None
        self._lock = threading.RLock()
        self._checkers: dict[str, Checker] = {}

    # -- the driver's calls -------------------------------------------------------------------------------

    def take_stock(self, migration: str, exports: Sequence[Export], checkpoint: Checkpoint) -> None:
        """Begin the ledger of each part file that is there with what is read from it now."""
        state.private_directory(self._home(migration))
        for export in exports:
            part, kept = self._local(export.part), self._ledger(migration, export)
            if export.block or kept.exists() or not part.exists():
                continue
            try:
                found.take_stock(part, export.size_bytes, kept, self._boot, checkpoint)
            except OSError as error:
                raise self._unavailable(f"{export.part}: {error.strerror}") from error

    def open(
        self, migration: str, exports: Sequence[Export], peer: str, identity: Identity = UNPROVEN
    ) -> ReceiverAddress:
        """Take *exports* from the address *peer*, which is *identity*; return where and with which key."""
        if identity.certificate and not self._certified:
            raise self._unavailable(f"{identity.name} asks for a certificate; set [images] tls on both hosts")
        with self._lock:
            wanted = Receiving(migration, str(ipaddress.ip_address(peer)), 0, list(exports))
            known = self._recorded(migration)
            state.private_directory(self._home(migration))
            kept = self._keys.read(self._home(migration), migration) is not None
            if known and kept and self._same(known, wanted) and self._runs(known):
                self._go_on(known)
                return self._address_of(known)
            self._keys.make(self._home(migration), migration, wanted.peer, identity)
            self._make_files(wanted)
            ports = [port for port in self._ports if port not in self._promised(migration)]
            started = self._start(wanted, [known.port, *ports] if known and known.port else ports)
            self._go_on(started)
            return self._address_of(started)

    def close(self, migration: str) -> None:
        """End it, see its process gone, forget its key. Manifests, log and part files stay."""
        with self._lock:
            self._end(migration)
            home = self._home(migration)
            shutil.rmtree(self._run_home(migration), ignore_errors=True)
            if home.is_dir():
                self._keys.remove(home)
                state.remove(home / recorded.RECEIVER)
            if checker := self._checkers.pop(migration, None):
                checker.end()

    def forget(self, migration: str) -> None:
        """Close it and remove what it kept of the migration: manifests and log. Part files stay."""
        with self._lock:
            self.close(migration)
            shutil.rmtree(self._home(migration), ignore_errors=True)

    def restore(self) -> list[str]:
        """Bring back what was open, each at its port and with its key; return the migrations.

        All are tried. If some cannot come back, the first one's error is raised then.
        """
        restored, failures = [], []
        with self._lock:
            for migration in self.open_migrations():
                try:
                    self._restore(migration)
                    restored.append(migration)
                except errors.ReceiverUnavailable as error:
                    failures.append(error)
        if failures:
            raise failures[0]
        return restored

    def open_migrations(self) -> list[str]:
        """Return the migrations whose receiver is recorded on this host."""
        return sorted(path.parent.name for path in self._state_dir.glob(f"*/{recorded.RECEIVER}"))

    def never_packed(self) -> str:
        """Return why no block can arrive packed here; empty where it can, or the settings say that none is to."""
        return unpacking.obstacle(self._nbdkit) if self._unpackers is not None else ""

    # -- records ------------------------------------------------------------------------------------------

    def _home(self, migration: str) -> Path:
        return state.migration_directory(self._state_dir, migration)

    def _run_home(self, migration: str) -> Path:
        return state.migration_directory(self._run_dir, migration)

    def _exports_dir(self, migration: str) -> Path:
        return self._run_home(migration) / "exports"

    def _recorded(self, migration: str) -> Receiving | None:
        return recorded.receiving(self._home(migration))

    def _record(self, receiving: Receiving) -> None:
        recorded.write(self._home(receiving.migration), receiving)

    def _promised(self, migration: str) -> set[int]:
        """Ports of other receivers, also of those that are down for the moment."""
        others = (self._recorded(other) for other in self.open_migrations() if other != migration)
        return {record.port for record in others if record}

    def _key(self, migration: str) -> str:
        """Return what the source of a migration is told; empty where nothing is encrypted."""
        key = self._keys.read(self._home(migration), migration)
        if key is None:
            raise self._unavailable(f"the key of migration {migration} is gone")
        return key

    def _address_of(self, record: Receiving) -> ReceiverAddress:
        key = self._key(record.migration)
        return ReceiverAddress(self._address, record.port, record.migration, key, record.exports)

    def _unavailable(self, reason: str) -> errors.ReceiverUnavailable:
        return errors.ReceiverUnavailable(host=self._address, reason=reason)

    # -- files --------------------------------------------------------------------------------------------

    def _make_files(self, receiving: Receiving) -> None:
        for export in receiving.exports:
            if not export.name.isdecimal():
                raise self._unavailable(f"export name {export.name!r} is no number")
            notes, kept = (
                self._manifest(receiving.migration, export),
                self._ledger(receiving.migration, export),
            )
            try:
                parts.prepare(export, self._local(export.part), notes, kept)
            except OSError as error:
                raise self._unavailable(f"{export.part}: {error.strerror}") from error

    def _local(self, path: str) -> Path:
        return Path(path)

    def _manifest(self, migration: str, export: Export) -> Path:
        return self._home(migration) / f"{export.name}.manifest"

    def _ledger(self, migration: str, export: Export) -> Path:
        return self._home(migration) / f"{export.name}.ledger"

    def _questions(self, migration: str, export: Export) -> Path:
        return self._home(migration) / f"{export.name}.check"

    def _link_exports(self, record: Receiving) -> None:
        """Make the directory that nbdkit offers anew: it follows links, and needs no more than they say."""
        directory = self._exports_dir(record.migration)
        shutil.rmtree(self._run_home(record.migration), ignore_errors=True)
        state.private_directory(directory)
        for export in record.exports:
            (directory / export.name).symlink_to(self._local(export.part))
            (directory / f"{export.name}.manifest").symlink_to(self._manifest(record.migration, export))
            (directory / f"{export.name}.ledger").symlink_to(self._ledger(record.migration, export))
            parts.make_sparse(self._questions(record.migration, export), check.FILE_BYTES)
            (directory / f"{export.name}.check").symlink_to(self._questions(record.migration, export))
        (directory / "boot").write_bytes(self._boot)
        if self._unpackers is not None:
            unpacking.tell(directory, 0)

    def _check_files(self, record: Receiving) -> None:
        for export in record.exports:
            gone = parts.gone(export, self._local(export.part), self._manifest(record.migration, export))
            if gone is not None:
                raise self._unavailable(f"{gone} is gone")

    # -- the process --------------------------------------------------------------------------------------

    def _restore(self, migration: str) -> None:
        record = self._recorded(migration)
        if record is None:
            return
        if not self._runs(record):
            self._key(migration)
            self._check_files(record)
            record = self._start(record, [record.port] if record.port else self._ports)
        self._go_on(record)

    def _go_on(self, record: Receiving) -> None:
        """Have what belongs to a receiver that runs: answers to its source, and the process beside it."""
        self._check(record)
        if self._unpackers is not None:
            taken = {record.port, *self._promised(record.migration)}
            place = unpacking.Place(
                migration=record.migration,
                peer=record.peer,
                home=self._home(record.migration),
                run_home=self._run_home(record.migration),
                user=self._user(record),
                parts=[export.name for export in record.exports],
            )
            self._unpackers.serve(place, [port for port in reversed(self._ports) if port not in taken])

    def _check(self, record: Receiving) -> None:
        """Answer what the source asks about this host's disk."""
        known = self._checkers.pop(record.migration, None)
        if known is not None:
            known.end()
        asked = [self._asked(record.migration, export) for export in record.exports]
        path = self._home(record.migration) / recorded.RECEIVER
        self._checkers[record.migration] = Checker(record.migration, asked, path.exists)

    def _asked(self, migration: str, export: Export) -> Asked:
        questions, notes = self._questions(migration, export), self._manifest(migration, export)
        return Asked(questions, notes, self._local(export.part), export)

    def _runs(self, record: Receiving) -> bool:
        return record.process is not None and record.process.alive

    @staticmethod
    def _same(known: Receiving, wanted: Receiving) -> bool:
        return (known.peer, known.exports) == (wanted.peer, wanted.exports)

    def _end(self, migration: str) -> None:
        """End its processes, and any that was started but never recorded."""
        record = self._recorded(migration)
        if record and record.process:
            record.process.end()
        exports = self._exports_dir(migration)
        state.remove(self._home(migration) / recorded.UNPACKER)
        for directory in (exports, confined.inside(exports)):
            for stray in process.running_with(f"dir={directory}"):
                stray.end()

    def _start(self, record: Receiving, ports: Iterable[int]) -> Receiving:
        self._end(record.migration)
        self._link_exports(record)
        home, run_home = self._home(record.migration), self._run_home(record.migration)
        with self._listen(list(ports), record.peer) as sock:
            record = replace(record, port=sock.getsockname()[1], process=None)
            self._record(record)
            service = self._service(record)
            launched = self._servers.launch(service, sock.fileno(), home, run_home)
        try:
            record = replace(record, process=self._servers.ready(service, launched, home, run_home))
        except errors.ReceiverUnavailable:
            self._end(record.migration)
            raise
        self._record(record)
        return record

    def _listen(self, ports: list[int], peer: str) -> socket.socket:
        """Take a port; where all are taken, one whose owner can do without."""
        try:
            return self._servers.listen(ports, peer)
        except errors.ReceiverUnavailable:
            homes = [self._home(migration) for migration in self.open_migrations()]
            port = unpacking.give_way(homes, ports)
            if port is None:
                raise
            return self._servers.listen_once_free(port, peer)

    def _service(self, record: Receiving) -> Service:
        exports = self._exports_dir(record.migration)
        return Service(
            name="receiver",
            migration=record.migration,
            # Without the cache what arrives goes to the disk at once, not when a flush asks for all of it.
            plugin=lambda inside: ["file", f"dir={inside(exports)}", "cache=none"],
            files=list(exports.iterdir()),
            user=self._user(record),
        )

    def _user(self, record: Receiving) -> int:
        return max(record.port - self._ports.start, 0)
