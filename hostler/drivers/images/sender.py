"""The source's end: several connections that share the blocks of all files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from hostler.drivers.images import Checkpoint, ProgressListener, extents, state, x509
from hostler.drivers.images.carrier import Carrier, Stopped, Terms
from hostler.drivers.images.destination import Destination
from hostler.drivers.images.link import Outage
from hostler.drivers.images.mending import Mender
from hostler.drivers.images.outgoing import Outgoing
from hostler.drivers.images.pace import Pace
from hostler.drivers.images.proof import Proof
from hostler.drivers.images.trials import Choice, Never
from hostler.objects import ImageDigest, ReceiverAddress

PROGRESS_INTERVAL_S = 0.25


class NbdSender:
    """Sends files to nbdkit over up to *connections* TLS connections, each with a thread of its own."""

    def __init__(
        self,
        run_dir: Path | str,
        connections: int = 4,
        *,
        encrypt: bool = True,
        certificates: x509.Files | None = None,
        choose: Callable[[Pace, int], Choice] = Never,
    ) -> None:
        """*choose* returns, for a pace and a number of connections, what chooses whether blocks travel packed."""
        self._run_dir = Path(run_dir)
        self._proof = Proof(self._run_dir, certificates, encrypt=encrypt)
        self._choose = choose
        self._connections = min(connections, max(2, os.cpu_count() or 1))

    def send(
        self,
        address: ReceiverAddress,
        progress: ProgressListener,
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> list[ImageDigest]:
        """Send every export of *address*, no faster than *pace*; return what left, in the order of the exports.

        *checkpoint* is called by every connection before each block, and by the caller's thread while it
        waits for them.
        """
        state.migration_directory(self._run_dir, address.username)
        files: list[Outgoing] = []
        try:
            for export in address.exports:
                checkpoint()
                files.append(Outgoing(export))
            with self._proof.files(address) as key_file:
                pace = pace or Pace()
                choice = self._choose(pace, self._connections)
                terms = Terms(checkpoint, Outage(timeout_s), pace, choice, state.boot(self._run_dir))
                _Copy(Destination(address, key_file), files, terms).run(self._connections, progress)
            return [file.digest() for file in files]
        finally:
            for file in files:
                file.close()

    def mend(
        self,
        address: ReceiverAddress,
        left: Sequence[ImageDigest],
        checkpoint: Checkpoint,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> int:
        """See that the destination's disk holds what *left*; return how many blocks were sent again."""
        mended = 0
        with self._proof.files(address) as key_file:
            connect = Destination(address, key_file).connected
            mender = Mender(connect, checkpoint, Outage(timeout_s), pace or Pace())
            for export, digest in zip(address.exports, left, strict=True):
                with closing(Outgoing(export)) as file:
                    mended += mender.mend(file, digest)
        return mended

    def certificate(self) -> str:
        """Return what this host shows, empty where nobody asks for it or it cannot be read."""
        return self._proof.certificate()


class _Copy:
    """What the connections of one :meth:`NbdSender.send` share."""

    def __init__(self, destination: Destination, files: list[Outgoing], terms: Terms) -> None:
        self._destination = destination
        self._files = files
        self._terms = terms
        self._failure: BaseException | None = None
        self._lock = threading.Lock()

    def run(self, connections: int, progress: ProgressListener) -> None:
        """Carry everything over; raise whatever any thread, or *checkpoint*, raises."""
        threads = [threading.Thread(target=self._work, name=f"send-{n}") for n in range(connections)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads) and not self._terms.stopping.is_set():
                self._terms.checkpoint()
                self._report(progress)
                self._wait(threads)
            self._report(progress)
        except BaseException as failure:  # noqa: BLE001 - raised again below, when the threads are gone
            self._fail(failure)
        finally:
            self._join(threads)
        if self._failure is not None:
            raise self._failure

    def _wait(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            if thread.is_alive():
                thread.join(PROGRESS_INTERVAL_S)
                return

    def _report(self, progress: ProgressListener) -> None:
        for file in self._files:
            if file.surveyed:  # before that nobody knows how much of it has arrived
                progress(file.progress())

    def _join(self, threads: list[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in threads):
            if self._terms.stopping.is_set():
                self._destination.cut()
            for thread in threads:
                thread.join(0.05)

    def _work(self) -> None:
        try:
            carrier = Carrier(self._destination, self._terms)
            while (file := self._pick()) is not None:
                try:
                    carrier.carry(file)
                finally:
                    self._leave(file)
        except Stopped:
            pass
        except BaseException as failure:  # noqa: BLE001 - raised again in the caller's thread
            self._fail(failure)

    def _pick(self) -> Outgoing | None:
        """Return the file with the fewest connections of those that have work for one more."""
        with self._lock:
            open_files = [file for file in self._files if not file.surveyed or file.waiting]
            fresh = [file for file in open_files if file.workers < -(-file.size_bytes // extents.BLOCK_BYTES)]
            file = min(
                fresh or [f for f in open_files if not f.workers], key=lambda f: f.workers, default=None
            )
            if file is not None:
                file.workers += 1
            return file

    def _leave(self, file: Outgoing) -> None:
        with self._lock:
            file.workers -= 1

    def _fail(self, failure: BaseException) -> None:
        """Stop everything because of *failure*; the first one counts."""
        with self._lock:
            if self._failure is None:
                self._failure = failure
        self._terms.stopping.set()
