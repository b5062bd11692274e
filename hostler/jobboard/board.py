"""The boards in ZooKeeper: which host's turn a migration is, and who works on it.

::

    /hostler/boards/<host>/<migration>        the job: a :class:`Posting`; at most one a migration
    /hostler/boards/<host>/<migration>/lock       ephemeral: the session that works on it
    /hostler/boards/<host>/<migration>/epoch-<n>  ephemeral, beside it: which of all claims that is
    /hostler/instances/<instance>                 the migration that holds the server, and its job's board
    /hostler/workers/<host>                       ephemeral: the worker that is alive there
    /hostler/parked/<migration>                   what waits for an operator
    /hostler/wishes/<migration>                   a wish was written into its record: look there

Each change is one transaction. One whose reply is lost is decided by looking: its effect carries its epoch,
which no other change has. A node's version would not do: a job that comes back to a board begins its versions
anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import (
    BadVersionError,
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    OperationTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)
from kazoo.protocol.states import ZnodeStat

from hostler.errors import Fenced
from hostler.jobboard.jobs import Claim, Place, Posting, is_name

_PASSED = "the claim of this job has passed to another session"

#: The reply was lost: the change was made, or was not.
UNDECIDED = (ConnectionLoss, OperationTimeoutError, SessionExpiredError)
#: The change was refused, since the nodes are not what it expects.
REFUSED = (BadVersionError, NoNodeError, NodeExistsError)


class Board:
    """All boards, as one session sees them."""

    def __init__(self, client: KazooClient, root: str) -> None:
        self.client = client
        self.root = root.rstrip("/")

    def path(self, *names: str) -> str:
        """Return a node's path under the root."""
        return "/".join((self.root, *names))

    def ensure(self, *hosts: str) -> None:
        """Make the permanent nodes that transactions need (a transaction makes no parents)."""
        for name in ("instances", "workers", "parked", "wishes"):
            self.client.ensure_path(self.path(name))
        for host in hosts:
            self.client.ensure_path(self.path("boards", host))

    # -- looking ------------------------------------------------------------------------------------------

    def hosts(self) -> list[str]:
        """Return the hosts that have a board."""
        return sorted(self._children(self.path("boards")))

    def jobs(self, host: str, watch: Callable[[Any], None] | None = None) -> list[str]:
        """Return the migrations whose turn is *host*'s; *watch* is called once when that changes."""
        return sorted(self._children(self.path("boards", host), watch))

    def posting(self, host: str, migration: str) -> Posting | None:
        """Return a job's posting; None if there is none, or none that can be read."""
        found = self._get(self.path("boards", host, migration))
        return Posting.decode(found[0]) if found else None

    def locked(self, host: str, migration: str, watch: Callable[[Any], None] | None = None) -> bool:
        """Tell whether another session works on the job; *watch* is called once when that changes."""
        stat = self.client.exists(self.path("boards", host, migration, "lock"), watch=watch)
        return stat is not None and not self._is_own(stat)

    def place(self, instance: str) -> Place | None:
        """Return which migration holds the server; a node that cannot be read names none."""
        found = self._get(self.path("instances", instance))
        if found is None:
            return None
        says = _object(found[0])
        migration, board = (
            str(says[key]) if is_name(says.get(key)) else "" for key in ("migration", "board")
        )
        return Place(migration, board, found[1].version)

    def held_instances(self) -> list[str]:
        """Return the servers that some migration holds."""
        return self._children(self.path("instances"))

    def alive(self, watch: Callable[[Any], None] | None = None) -> list[str]:
        """Return the hosts whose worker is alive; *watch* is called once when that changes."""
        return self._children(self.path("workers"), watch)

    def wishes(self, watch: Callable[[Any], None] | None = None) -> list[str]:
        """Return the migrations of whose record somebody wants notice taken; *watch* as in :meth:`jobs`."""
        return self._children(self.path("wishes"), watch)

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return the workers that are alive, by host, with what they say of themselves."""
        alive = {}
        for host in self._children(self.path("workers")):
            found = self._get(self.path("workers", host))
            if found is not None:
                alive[host] = _object(found[0])
        return alive

    def all_parked(self) -> list[str]:
        """Return the migrations that wait for an operator."""
        return self._children(self.path("parked"))

    def parked(self, migration: str) -> dict[str, Any] | None:
        """Return what was said when the migration was parked."""
        found = self._get(self.path("parked", migration))
        return _object(found[0]) if found else None

    # -- changing -----------------------------------------------------------------------------------------

    def post(self, host: str, posting: Posting) -> bool:
        """Put a job on *host*'s board and take hold of its server; tell whether the server was free.

        A server that this same migration holds already, with its job gone, is taken anew.
        """
        self.ensure(host)
        job = self.path("boards", host, posting.migration)
        place = before = self.place(posting.instance)
        if place is not None and place.migration != posting.migration:
            return False
        transaction = self.client.transaction()
        if place is None:
            transaction.create(self._instance(posting), _place(posting, host))
        else:
            transaction.set_data(self._instance(posting), _place(posting, host), version=place.version)
        transaction.create(job, posting.encode())
        return self._commit(transaction, lambda: self._took_hold(posting, before))

    def _took_hold(self, posting: Posting, before: Place | None) -> bool:
        """Tell whether the server was taken since; the job may have been claimed, or be done, by now."""
        place = self.place(posting.instance)
        return place is not None and place.migration == posting.migration and place != before

    def claim(self, host: str, migration: str) -> Claim | None:
        """Take the job and raise its epoch; None if it is gone, held by another session, or unreadable.

        A lock of this very session was left behind by a leg that could not give its job back: it is replaced.
        So a session must not ask for a job that one of its legs works on.
        """
        job = self.path("boards", host, migration)
        found = self._get(job)
        posting = Posting.decode(found[0]) if found else None
        if found is None or posting is None or posting.migration != migration:
            return None
        raised = dataclasses.replace(posting, epoch=posting.epoch + 1, attempts=posting.attempts + 1)
        for left_behind in (False, True):
            if left_behind and not self._is_mine(f"{job}/lock"):
                return None
            transaction = self.client.transaction()
            if left_behind:
                self._unlock(transaction, job, posting.epoch)
            transaction.set_data(job, raised.encode(), version=found[1].version)
            transaction.create(f"{job}/lock", b"", ephemeral=True)
            transaction.create(f"{job}/epoch-{raised.epoch}", b"", ephemeral=True)
            if self._commit(transaction, lambda: self._has(job, raised) and self._is_mine(f"{job}/lock")):
                return Claim(host, raised, found[1].version + 1)
        return None

    def hand_over(self, claim: Claim, host: str) -> None:
        """Move the job and its epoch to *host*'s board; :class:`~hostler.errors.Fenced` if it has passed."""
        posting = dataclasses.replace(claim.posting, attempts=0)
        board = self.path("boards", host)
        job = f"{board}/{posting.migration}"

        def moved() -> bool:
            transaction = self._leave(claim)
            transaction.create(job, posting.encode())
            transaction.set_data(self._instance(posting), _place(posting, host))
            return self._commit(transaction, lambda: self._has_epoch(job, posting.epoch))

        done = moved()
        if not done and self.client.exists(board) is None:  # its worker never ran
            self.ensure(host)
            done = moved()
        if not done:
            raise Fenced(_PASSED)

    def take_over(self, posting: Posting, dead: str, host: str, **changes: str) -> bool:
        """Move a job that nobody works on from a *dead* host's board to *host*'s; tell whether it was there.

        *changes*: what its posting says differently from then on.
        """
        self.ensure(host)
        found = self._get(self.path("boards", dead, posting.migration))
        if found is None or Posting.decode(found[0]) != posting or self.locked(dead, posting.migration):
            return False
        job = self.path("boards", host, posting.migration)
        moved = dataclasses.replace(posting, attempts=0, **changes)  # type: ignore[arg-type]
        transaction = self.client.transaction()
        transaction.delete(self.path("boards", dead, posting.migration), version=found[1].version)
        transaction.create(job, moved.encode())
        transaction.set_data(self._instance(posting), _place(posting, host))
        return self._commit(transaction, lambda: self._has(job, moved))

    def wish(self, migration: str) -> None:
        """Let the workers look at a migration's record."""
        with contextlib.suppress(NodeExistsError):
            self.client.create(self.path("wishes", migration))

    def forget_wish(self, migration: str) -> None:
        """Remove the wish of a migration that is over."""
        with contextlib.suppress(NoNodeError):
            self.client.delete(self.path("wishes", migration), recursive=True)

    def consume(self, claim: Claim) -> None:
        """Take the finished job off the board and let go of its server, unless another board has that."""
        transaction = self._leave(claim)
        place = self.place(claim.posting.instance)
        if place is not None and (place.migration, place.board) == (claim.posting.migration, claim.host):
            transaction.delete(self._instance(claim.posting), version=place.version)
        self._must(transaction, lambda: not self._has_epoch(self._job(claim), claim.posting.epoch))

    def park(self, claim: Claim, notice: dict[str, Any]) -> None:
        """Take the job off the board until an operator has decided; the server stays held."""
        parked = self.path("parked", claim.posting.migration)
        data = json.dumps(notice | {"posting": claim.posting.to_dict()}).encode()
        transaction = self._leave(claim)
        if self.client.exists(parked):
            transaction.set_data(parked, data)
        else:
            transaction.create(parked, data)
        self._must(transaction, lambda: self._says(parked, data))

    def unpark(self, migration: str) -> None:
        """Forget what was said when the migration was parked: it is on a board again."""
        with contextlib.suppress(NoNodeError):
            self.client.delete(self.path("parked", migration), recursive=True)

    def abandon(self, claim: Claim, *, counts: bool) -> None:
        """Give the job back to the board it is on; unless it *counts*, this claim was no attempt."""
        attempts = claim.posting.attempts - (0 if counts else 1)
        posting = dataclasses.replace(claim.posting, attempts=attempts)
        transaction = self.client.transaction()
        self._unlock(transaction, self._job(claim), claim.posting.epoch)
        transaction.set_data(self._job(claim), posting.encode(), version=claim.version)
        self._must(transaction, lambda: not self._is_mine(f"{self._job(claim)}/lock"))

    def release(self, instance: str, place: Place) -> None:
        """Let go of a server whose migration is over and has no job."""
        transaction = self.client.transaction()
        transaction.delete(self.path("instances", instance), version=place.version)
        self._commit(transaction, lambda: self.place(instance) is None)

    # -- underneath ---------------------------------------------------------------------------------------

    def _job(self, claim: Claim) -> str:
        return self.path("boards", claim.host, claim.posting.migration)

    def _instance(self, posting: Posting) -> str:
        return self.path("instances", posting.instance)

    def _leave(self, claim: Claim) -> TransactionRequest:
        transaction = self.client.transaction()
        self._unlock(transaction, self._job(claim), claim.posting.epoch)
        transaction.delete(self._job(claim), version=claim.version)
        return transaction

    @staticmethod
    def _unlock(transaction: TransactionRequest, job: str, epoch: int) -> None:
        transaction.delete(f"{job}/epoch-{epoch}")
        transaction.delete(f"{job}/lock")

    def _must(self, transaction: TransactionRequest, happened: Callable[[], bool]) -> None:
        if not self._commit(transaction, happened):
            raise Fenced(_PASSED)

    def _commit(self, transaction: TransactionRequest, happened: Callable[[], bool]) -> bool:
        """Commit; tell whether the change was made. A lost reply is decided by looking, and asked again."""
        operations = list(transaction.operations)
        try:
            return _accepted(transaction.commit())
        except UNDECIDED:
            if self.client.retry(happened):
                return True
        again = self.client.transaction()
        again.operations = operations
        return _accepted(self.client.retry(again.commit)) or bool(self.client.retry(happened))

    def _children(self, path: str, watch: Callable[[Any], None] | None = None) -> list[str]:
        try:
            return list(self.client.get_children(path, watch=watch))
        except NoNodeError:
            return []

    def _get(self, path: str) -> tuple[bytes, ZnodeStat] | None:
        try:
            data, stat = self.client.get(path)
        except NoNodeError:
            return None
        return bytes(data), stat

    def _has(self, path: str, posting: Posting) -> bool:
        return self._says(path, posting.encode())

    def _says(self, path: str, data: bytes) -> bool:
        found = self._get(path)
        return found is not None and found[0] == data

    def _has_epoch(self, path: str, epoch: int) -> bool:
        found = self._get(path)
        posting = Posting.decode(found[0]) if found else None
        return posting is not None and posting.epoch >= epoch

    def _is_mine(self, path: str) -> bool:
        stat = self.client.exists(path)
        return stat is not None and self._is_own(stat)

    def _is_own(self, stat: ZnodeStat) -> bool:
        session = self.client.client_id
        return session is not None and bool(stat.ephemeralOwner == session[0])


def _accepted(results: list[Any]) -> bool:
    """Tell whether a transaction went through: kazoo's commit returns errors instead of raising them."""
    failures = [result for result in results if isinstance(result, Exception)]
    causes = [error for error in failures if not isinstance(error, (RolledBackError, RuntimeInconsistency))]
    if causes and not isinstance(causes[0], REFUSED):
        raise causes[0]
    return not failures


def _place(posting: Posting, board: str) -> bytes:
    return json.dumps({"migration": posting.migration, "board": board}).encode()


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
