"""What whoever asks for something uses: checks that need no host, the posting, and looking on."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from kazoo.exceptions import AuthFailedError, KazooException, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError
from oslo_config import cfg
from sqlalchemy.orm import Session

from hostler import conf as settings
from hostler.errors import ServerUnreachable
from hostler.jobboard import recovery, refusals, resized, resizing, verbs, verification
from hostler.jobboard.board import Board
from hostler.jobboard.destinations import Destination, choose
from hostler.jobboard.news import News
from hostler.jobboard.posting import put_on_board, write_flow
from hostler.jobboard.resizing import Wanted
from hostler.jobboard.verification import Disk
from hostler.jobboard.zookeeper import connect, disconnect, stranger
from hostler.records import fence, instances
from hostler.records.database import Database
from hostler.records.models import Instance, Migration, new_uuid
from hostler.scheduling import Request
from hostler.scheduling.scheduler import Candidate, Scheduler

LOG = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Client:
    """Asks for migrations. Connects when it must; a server that does not answer is named within seconds."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        settings.check(conf)
        self._conf = conf
        self._database: Database | None = None
        self._board: Board | None = None
        self._scheduler: Scheduler | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def database(self) -> Database:
        """The records."""
        if self._database is None:
            database = Database(self._conf.database.connection, self._conf.database.connect_timeout)
            database.check()
            self._database = database
        return self._database

    @property
    def board(self) -> Board:
        """The boards."""
        if self._board is None:
            board = Board(connect(self._conf), self._conf.zookeeper.root)
            try:
                self._zookeeper(board.ensure)
            except ServerUnreachable:
                disconnect(board.client)
                raise
            self._board = board
        return self._board

    @property
    def scheduler(self) -> Scheduler:
        """What chooses hosts."""
        if self._scheduler is None:
            self._scheduler = Scheduler.from_conf(self._conf)
        return self._scheduler

    def close(self) -> None:
        """Let go of both."""
        if self._board is not None:
            disconnect(self._board.client)
        if self._database is not None:
            self._database.close()

    # -- looking ------------------------------------------------------------------------------------------

    def live_workers(self) -> dict[str, dict[str, Any]]:
        """Return what the workers that are alive say of themselves, by host."""
        return self._zookeeper(self.board.workers)

    def queue(self) -> dict[str, list[str]]:
        """Return the migrations on each host's board."""
        board = self.board
        return self._zookeeper(lambda: {host: board.jobs(host) for host in board.hosts()})

    def news(self, migration: str, hosts: Iterable[str]) -> News:
        """Return what tells that the migration's job came to one of these *hosts*, was claimed, given back or left."""
        board = self.board
        paths = [board.path("boards", host, migration) for host in dict.fromkeys(hosts)]
        return News([partial(board.client.exists, path) for path in paths], self._zookeeper)

    def news_of_all(self) -> News:
        """Return what tells that any job came to a board or left it."""
        board = self.board
        hosts = self._zookeeper(board.hosts)
        return News([partial(board.jobs, host) for host in hosts], self._zookeeper)

    def is_worked_on(self, migration: str, hosts: Iterable[str]) -> bool:
        """Tell whether a worker has the migration's job on one of these *hosts*' boards."""
        board = self.board
        return self._zookeeper(lambda: any(board.locked(host, migration) for host in dict.fromkeys(hosts)))

    def waiting(self, host: str) -> list[str]:
        """Return the migrations on one host's board."""
        board = self.board
        return self._zookeeper(lambda: board.jobs(host))

    # -- asking -------------------------------------------------------------------------------------------

    def migrate(
        self,
        server: str,
        dest: str | None = None,
        *,
        networks: Mapping[str, str] | None = None,
        requested_by: str,
    ) -> str:
        """Ask for a cold migration; return its uuid. What the records alone can tell is refused at once.

        Without *dest* the scheduler chooses, now and after each destination that fails. *networks*: what those of
        the server are called there, as :mod:`hostler.networks` reads it.
        """
        workers = self.live_workers()
        with self.database.transaction() as session:
            instance = refusals.movable(session, server, dest, workers)
            refusals.unless_settled(session, instance, "migrate")
            request = Request.of(session, instance, network_map=networks)
            chosen = choose(self.scheduler, session, request, dest, workers)
            migration = self._new(
                instance, chosen.host, "migration", "cold_migration", requested_by, networks
            )
            self._put_down(session, migration, instance, chosen, {})
        return self._post(migration)

    def resize(
        self,
        server: str,
        flavor: str,
        dest: str | None = None,
        *,
        networks: Mapping[str, str] | None = None,
        requested_by: str,
    ) -> str:
        """Ask for another size; return the migration's uuid.

        Without *dest* the scheduler chooses, as for a move: the server's own host is one of the candidates unless
        *allow_resize_to_same_host* is off.
        """
        workers = self.live_workers()
        with self.database.transaction() as session:
            instance = self._resizable(session, server, flavor, dest, workers)
            refusals.unless_settled(session, instance, "resize")
            wanted = resizing.wanted(session, instance, flavor)
            arguments = resizing.arguments(session, wanted, instance)
            request = self._resized(session, instance, wanted, networks)
            chosen = choose(self.scheduler, session, request, dest, workers)
            migration = self._new(instance, chosen.host, "resize", "resize", requested_by, networks)
            wanted.put_down(migration)
            self._put_down(session, migration, instance, chosen, arguments)
        return self._post(migration)

    def candidates(
        self, server: str, flavor: str | None = None, networks: Mapping[str, str] | None = None
    ) -> list[Candidate]:
        """Return what the scheduler finds of every host: the best first, then those that cannot have the server.

        *flavor*: what it is to have there; *networks*: as of :meth:`migrate`.
        """
        workers = self.live_workers()
        with self.database.reading() as session:
            if flavor is None:
                instance = refusals.movable(session, server, None, workers)
                request = Request.of(session, instance, network_map=networks)
            else:
                instance = self._resizable(session, server, flavor, None, workers)
                wanted = resizing.wanted(session, instance, flavor)
                request = self._resized(session, instance, wanted, networks)
            return self.scheduler.candidates(session, request, workers)

    def dry_run(
        self,
        server: str,
        dest: str,
        *,
        flavor: str | None = None,
        networks: Mapping[str, str] | None = None,
        requested_by: str,
    ) -> str:
        """Ask both hosts to look; return the uuid whose ``report`` they will write. *flavor*: at a resize."""
        workers = self.live_workers()
        with self.database.transaction() as session:
            if flavor is not None:
                instance = self._resizable(session, server, flavor, dest, workers)
            else:
                instance = refusals.movable(session, server, dest, workers)
            refusals.unless_mapped(session, Request.of(session, instance, network_map=networks), dest)
            migration = self._new(instance, dest, "dry-run", "dry_run", requested_by, networks)
            if flavor is not None:
                wanted = resizing.wanted(session, instance, flavor)
                resizing.arguments(session, wanted, instance)  # refused at once, as the resize would be
                wanted.put_down(migration)
            session.add(migration)
            fence.open_fence(session, migration.uuid)
            write_flow(session, migration, {})
        return self._post(migration)

    def confirm(self, server: str, *, requested_by: str) -> str:
        """See :func:`hostler.jobboard.resized.confirm`."""
        return self._zookeeper(
            lambda: resized.confirm(self.database, self.board, server, requested_by=requested_by)
        )

    def revert_resize(self, server: str, *, requested_by: str, reason: str, drop_writes: bool = False) -> str:
        """See :func:`hostler.jobboard.resized.revert`."""
        return self._zookeeper(
            lambda: resized.revert(
                self.database,
                self.board,
                server,
                requested_by=requested_by,
                reason=reason,
                drop_writes=drop_writes,
            )
        )

    # -- resolving ----------------------------------------------------------------------------------------

    def cancel(self, migration: str, *, requested_by: str, reason: str) -> str:
        """See :func:`hostler.jobboard.verbs.cancel`."""
        return self._zookeeper(
            lambda: verbs.cancel(self.database, self.board, migration, who=requested_by, reason=reason)
        )

    def retry(self, migration: str, *, requested_by: str, reason: str = "") -> str:
        """See :func:`hostler.jobboard.verbs.retry`."""
        return self._zookeeper(
            lambda: verbs.retry(self.database, self.board, migration, who=requested_by, reason=reason)
        )

    def revert(self, migration: str, *, requested_by: str, reason: str) -> str:
        """See :func:`hostler.jobboard.verbs.revert`."""
        return self._zookeeper(
            lambda: verbs.revert(self.database, self.board, migration, who=requested_by, reason=reason)
        )

    def skip(self, migration: str, step: str, *, requested_by: str, reason: str) -> str:
        """See :func:`hostler.jobboard.verbs.skip`."""
        return self._zookeeper(
            lambda: verbs.skip(self.database, self.board, migration, step, who=requested_by, reason=reason)
        )

    def recover(
        self, migration: str, down: str, *, requested_by: str, reason: str, drop_writes: bool = False
    ) -> str:
        """See :func:`hostler.jobboard.recovery.recover`."""
        return self._zookeeper(
            lambda: recovery.recover(
                self.database,
                self.board,
                migration,
                down,
                who=requested_by,
                reason=reason,
                drop_writes=drop_writes,
            )
        )

    def verify(self, migration: str, *, timeout_s: float) -> list[Disk]:
        """See :func:`hostler.jobboard.verification.ask`."""
        return self._zookeeper(
            lambda: verification.ask(self.database, self.board, migration, timeout_s=timeout_s)
        )

    # -- underneath ---------------------------------------------------------------------------------------

    def _resizable(
        self, session: Session, server: str, flavor: str, dest: str | None, workers: Container[str]
    ) -> Instance:
        in_place = self.scheduler.resizes_in_place
        return refusals.resizable(session, server, flavor, dest, workers, in_place=in_place)

    def _resized(
        self, session: Session, instance: Instance, wanted: Wanted, networks: Mapping[str, str] | None
    ) -> Request:
        in_place = self.scheduler.resizes_in_place
        return resizing.request(session, instance, wanted.new, same_host=in_place, network_map=networks)

    @staticmethod
    def _put_down(
        session: Session,
        migration: Migration,
        instance: Instance,
        chosen: Destination,
        arguments: dict[str, Any],
    ) -> None:
        """Write a new migration, its fence and its flow, if nobody else got hold of the server meanwhile."""
        chosen.put_down(session, migration)
        session.add(migration)
        fence.open_fence(session, migration.uuid)
        write_flow(session, migration, arguments)
        method = "migrate" if migration.new_flavor is None else "resize"
        with refusals.if_lost(instance, method, "active or stopped"):
            instances.save(session, instance.uuid, expected_task_state=[None], task_state="resize_prep")
        said = f"asked for by {migration.requested_by}"
        fence.add_event(session, migration.uuid, "", "posted", said)

    @staticmethod
    def _new(
        instance: Instance,
        dest: str,
        kind: str,
        flow: str,
        requested_by: str,
        networks: Mapping[str, str] | None,
    ) -> Migration:
        return Migration(
            uuid=new_uuid(),
            instance_uuid=instance.uuid,
            instance_name=instance.name,
            migration_type=kind,
            status="pre-migrating",
            phase="posting",
            source_compute=instance.host,
            dest_compute=dest,
            old_vm_state=instance.vm_state,
            flow_name=flow,
            flow_uuid="",
            request_id=f"req-{uuid.uuid4()}",
            requested_by=requested_by,
            network_map=dict(networks) if networks else None,
        )

    def _post(self, migration: Migration) -> str:
        LOG.debug("migration %s: request %s", migration.uuid, migration.request_id)
        self._zookeeper(lambda: put_on_board(self.database, self.board, migration))
        return migration.uuid

    def _zookeeper(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except (NoAuthError, AuthFailedError) as error:
            raise stranger(self._conf, error) from error
        except (KazooException, KazooTimeoutError) as error:
            where = ",".join(self._conf.zookeeper.hosts)
            raise ServerUnreachable(
                what="ZooKeeper", where=where, reason=str(error) or type(error).__name__
            ) from error
