"""The worker of a host: claims the jobs of its board and carries out this host's steps."""

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import AuthFailedError, KazooException
from kazoo.protocol.states import KeeperState
from oslo_config import cfg

from hostler.drivers.images.state import private_directory
from hostler.drivers.processes import Process
from hostler.errors import ReceiverUnavailable, ServerUnreachable, WorkerRuns
from hostler.jobboard import debts, lock, postman, reboot
from hostler.jobboard.adoption import Adoption
from hostler.jobboard.board import UNDECIDED, Board
from hostler.jobboard.confirm_window import ConfirmWindow
from hostler.jobboard.doctor import Surgery
from hostler.jobboard.jobs import Claim
from hostler.jobboard.kept_copies import drop_kept
from hostler.jobboard.leg import End, MigrationLeg
from hostler.jobboard.legs import BACK_OFF_S, Legs
from hostler.jobboard.presence import Presence
from hostler.jobboard.reconciler import Reconciler
from hostler.jobboard.report import HostReport
from hostler.jobboard.takeover import take_over
from hostler.jobboard.tether import Tether
from hostler.jobboard.zookeeper import connect, disconnect, stranger
from hostler.metrics import server as metrics
from hostler.metrics.health import Health
from hostler.metrics.meter import Meter
from hostler.metrics.sending import CountedSender
from hostler.records.database import Database
from hostler.records.models import Migration
from hostler.scheduling.scheduler import Scheduler
from hostler.tasks.base import Drivers, Timeouts
from hostler.tasks.domain import MIGRATIONS
from hostler.tracing import configured
from hostler.tracing.tracer import Tracer

LOG = logging.getLogger(__name__)

#: How often a worker that was told to end looks whether ZooKeeper answers.
LEAVE_S = 1.0


class Worker:
    """One a host. :meth:`run` returns when :meth:`stop` was called or its session could not be kept."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, drivers: Drivers) -> None:
        self.conf = conf
        self.host: str = conf.host
        self.database = database
        self._meter = Meter(self.host, conf.max_concurrent_migrations)
        self._health = Health(conf.metrics.stalled_after)
        self.drivers = dataclasses.replace(drivers, sender=CountedSender(drivers.sender, self._meter))
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._reconnected = threading.Event()
        self._board: Board
        self._legs: Legs
        self._presence: Presence
        self._surgery: Surgery
        self._report: HostReport
        self._tracer: Tracer
        self._adoption = Adoption(database, drivers.hypervisor, self.host)
        self._scheduler = Scheduler.from_conf(conf)
        self._timeouts = Timeouts(
            shutdown_s=conf.shutdown_timeout,
            shutdown_retry_s=conf.shutdown_retry_interval,
            guest_start_s=conf.guest_start_timeout,
            copy_s=conf.images.timeout,
            max_attempts=conf.max_attempts,
            vif_plugging_s=conf.openstack.vif_plugging_timeout,
            vif_plugging_is_fatal=conf.openstack.vif_plugging_is_fatal,
        )

    # -- life ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until told to stop; :class:`~hostler.errors.BadConfiguration` if ZooKeeper knows us no more."""
        with ExitStack() as stack:
            client = connect(self.conf)
            stack.callback(disconnect, client)
            self._board = Board(client, self.conf.zookeeper.root)
            self._legs = Legs(self.conf, self.host, self._board, self._leg, self._wake, self._meter)
            self._health.connected = lambda: client.connected
            stack.enter_context(self._not_kept_by(client))
            client.add_listener(self._session_changed)
            self._board.ensure(self.host)
            self._surgery = Surgery(
                self._board, self.database, self.drivers, self.host, self.conf.state_path, self.conf.run_path
            )
            self._presence = Presence(
                self._board,
                self.host,
                dead_after_s=self.conf.dead_host_timeout,
                session_timeout_s=self.conf.zookeeper.session_timeout,
            )
            self._take_host(stack)
            self._tracer = stack.enter_context(configured.at_work(self.conf, self._meter))
            stack.enter_context(metrics.at_work(self.conf, self.database, self._meter, self._health))
            self._prepare_host()
            self._announce()
            stack.enter_context(postman.at_work(self.conf, self.database, self.drivers.notifications))
            stack.enter_context(self._confirm_window().at_work(self.conf.zookeeper.reconcile_interval))
            pool = ThreadPoolExecutor(self.conf.max_concurrent_migrations, thread_name_prefix="leg")
            stack.callback(pool.shutdown)
            LOG.info("worker of %s is ready: %s", self.host, self._board.path("boards", self.host))
            try:
                self._work(pool)
            finally:
                self._legs.end(self.conf.graceful_shutdown_timeout)
                self._health.announced.clear()
                self._presence.withdraw()
        LOG.info("worker of %s has ended", self.host)

    def _confirm_window(self) -> ConfirmWindow:
        hypervisor, window_s = self.drivers.hypervisor, self.conf.resize_confirm_window
        return ConfirmWindow(self.database, self._board, hypervisor, self.host, window_s)

    def stop(self) -> None:
        """Ask :meth:`run` to end: steps under way may finish, up to *graceful_shutdown_timeout*."""
        self._stopping.set()
        self._wake.set()

    def _announce(self) -> None:
        self._presence.announce(self._stopping)
        self._health.announced.set()

    def _take_host(self, stack: ExitStack) -> None:
        """Be the only worker of this host; one that hangs and has lost its session is ended."""
        try:
            stack.enter_context(lock.held(self.conf.run_path, "worker"))
        except lock.LockHeld as error:
            holder = error.process
            if not isinstance(holder, Process) or self.host in self._board.alive():
                raise WorkerRuns(host=self.host, holder=str(error)) from error
            LOG.warning(
                "the worker of %s hangs and has lost its session: process %d is ended", self.host, holder.pid
            )
            holder.end()
            stack.enter_context(lock.held(self.conf.run_path, "worker"))

    @contextmanager
    def _not_kept_by(self, client: KazooClient) -> Iterator[None]:
        """See to it that a stop does not wait for a ZooKeeper that is silent: kazoo's requests would."""

        def leave() -> None:
            self._stopping.wait()
            deadline = time.monotonic() + (self.conf.graceful_shutdown_timeout if self._legs else 0)
            while not self._ended.wait(LEAVE_S):
                if not client.connected and time.monotonic() > deadline:
                    LOG.warning("ZooKeeper does not answer: the worker ends without it")
                    client.stop()
                    return

        thread = threading.Thread(target=leave, name="leave", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._stopping.set()
            thread.join()

    def _prepare_host(self) -> None:
        private_directory(Path(self.conf.state_path, MIGRATIONS))
        self.database.check()
        self._report = HostReport(self.conf, self.database, self.drivers)
        self._report.renew()
        self._pay_debts()
        try:
            for migration in self.drivers.receiver.restore():
                LOG.info("the receiver of migration %s is back", migration)
        except ReceiverUnavailable as error:
            LOG.error("%s: its copy waits, and gives up in the end", error)
        reboot.restart_unconfirmed(self.database, self.drivers.hypervisor, self.host, self.conf.run_path)
        self._adoption.run()
        self.drivers.hypervisor.listen(self._adoption.domain_changed)

    # -- the board ----------------------------------------------------------------------------------------

    def _work(self, pool: ThreadPoolExecutor) -> None:
        reconciler = Reconciler(self.database, self._board, self.conf.zookeeper.posting_timeout)
        reconcile_due = 0.0
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if self._reconnected.is_set():
                    self._return_to_zookeeper()
                    reconcile_due = 0.0
                if time.monotonic() >= reconcile_due:
                    for duty in (
                        self._pay_debts,
                        reconciler.run,
                        self._adoption.run,
                        self._report.renew,
                        self._drop_kept,
                    ):
                        self._attempt(duty)
                    reconcile_due = time.monotonic() + self.conf.zookeeper.reconcile_interval
                pause = self._look_around(pool)
            except AuthFailedError as error:  # kazoo asks no more: whoever starts this worker again does
                raise stranger(self.conf, error) from error
            except (ServerUnreachable, KazooException) as error:
                reason = str(error) or type(error).__name__
                LOG.warning("%s: looked at again in %.0f s", reason, BACK_OFF_S[1])
                pause = BACK_OFF_S[1]
                reconcile_due = max(reconcile_due, time.monotonic() + pause)
            pause = max(0.0, min(pause, reconcile_due - time.monotonic()))
            self._health.turned(pause)
            self._wake.wait(pause)

    def _look_around(self, pool: ThreadPoolExecutor) -> float:
        """See what is to do, who is dead and what is wished; return when to look again."""
        pause = self._take_jobs(pool)
        self._surgery.serve(watch=self._look_again)
        soonest = self._presence.look(watch=self._look_again)
        self._attempt(lambda: take_over(self.database, self._board, self.host, self._presence.dead()))
        wishes = self._board.wishes(watch=self._look_again)
        self._legs.cancel(wishes)
        return pause if soonest is None else min(pause, soonest)

    @staticmethod
    def _attempt(duty: Callable[[], object]) -> None:
        """Do what a damaged record or a stranger's node may make impossible: the jobs go on without it."""
        try:
            duty()
        except (ServerUnreachable, *UNDECIDED):
            raise
        except Exception:
            LOG.exception("something of this worker's own cannot be done; it is tried again later")

    def _pay_debts(self) -> set[str]:
        """Undo what this host owes from a time when it was away; return the migrations whose undo it still owes."""
        payer = debts.Payer(
            self.database,
            self.host,
            self.drivers,
            self._timeouts,
            self.conf.state_path,
            self.conf.run_path,
            self._tracer,
        )
        return payer.pay()

    def _drop_kept(self) -> None:
        drop_kept(self.database, self.host, self.drivers.files)

    def _take_jobs(self, pool: ThreadPoolExecutor) -> float:
        """Start a leg for each job that can be had; return after how many seconds to look again."""
        pause = float(self.conf.zookeeper.relist_interval)
        owed: set[str] | None = None  #: servers of which an undo is owed; asked for when there is a job
        jobs = self._board.jobs(self.host, watch=self._look_again)
        for migration in jobs:
            if not self._legs.has_room_for(migration):
                continue
            if (left := self._legs.paused_s(migration)) > 0:
                pause = min(pause, left)
                continue
            if self._board.locked(self.host, migration, watch=self._look_again):
                continue
            owed = self._servers_owed() if owed is None else owed
            if owed and (
                (posting := self._board.posting(self.host, migration)) is None or posting.instance in owed
            ):
                pause = min(pause, BACK_OFF_S[-1])
                continue
            self._legs.begin(pool, migration)
        self._meter.board_seen(jobs, self._legs.under_way())
        return pause

    def _servers_owed(self) -> set[str]:
        """Pay first; return the servers of which this host still owes an undo: no job of theirs is taken."""
        owing = self._pay_debts()
        with self.database.reading() as session:
            rows = (session.get(Migration, migration) for migration in owing)
            return {row.instance_uuid for row in rows if row is not None}

    def _leg(self, claim: Claim, tether: Tether, held: int) -> End:
        leg = MigrationLeg(
            claim,
            self._board,
            self.database,
            self.drivers,
            self._timeouts,
            self.conf.state_path,
            tether,
            self._presence.is_dead,
            self._scheduler,
            held,
            self._meter,
            self._tracer,
        )
        return leg.run()

    def _look_again(self, _event: Any) -> None:
        self._wake.set()

    # -- the session --------------------------------------------------------------------------------------

    def _session_changed(self, state: str) -> None:
        """Called from kazoo's thread: it must not wait."""
        self._legs.session_changed(state)
        if state == KazooState.LOST:
            self._health.announced.clear()
            if self._board.client.client_state == KeeperState.AUTH_FAILED:
                self._wake.set()  # there will be no other news
        if state == KazooState.CONNECTED:
            self._reconnected.set()
            self._wake.set()

    def _return_to_zookeeper(self) -> None:
        """After a reconnect: it may have lost the session, and everything else."""
        self._reconnected.clear()
        try:
            self._board.ensure(self.host)
            self._announce()
        except KazooException:
            self._reconnected.set()
            raise


def run(conf: cfg.ConfigOpts) -> int:
    """Run this host's worker until SIGTERM or SIGINT; return the exit code."""
    from hostler.jobboard.assembly import make_drivers

    database = Database(conf.database.connection, conf.database.connect_timeout)
    worker = Worker(conf, database, make_drivers(conf))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    try:
        worker.run()
    finally:
        worker.drivers.hypervisor.close()
        database.close()
    return 0
