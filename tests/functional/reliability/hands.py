"""Workers as processes of their own that stand still in the middle of a step, and the books that are kept of them."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient, KazooState
from oslo_config import cfg
from sqlalchemy import Connection, Engine, event

from hostler import conf as settings
from hostler import flows
from hostler.drivers import processes
from hostler.drivers.files import disk
from hostler.errors import MigrationError
from hostler.jobboard import assembly, worker
from hostler.tasks import base
from hostler.tasks.base import HostTask, Leg
from tests.support.kept import KeptHypervisor, KeptNotifications, KeptVolumes, Ledger
from tests.support.world import FakeHost, fake_host

ADDRESSES = {"kvm1": "10.0.0.1", "kvm2": "10.0.0.2"}
#: How long a step that stands still looks for the file that lets it go on, in seconds.
PATIENCE_S = 60.0
PASSES = "passes "
_DML = re.compile(r"(INSERT INTO|UPDATE|DELETE FROM) (\w+)")


@dataclass(frozen=True)
class Stop:
    """Where a worker stands still, once in a world."""

    method: str  #: ``execute`` or ``revert``
    step: str
    when: (
        str  #: ``before`` the step does anything, at its first ``effect``, ``after`` it, ``writing`` a record
    )
    frozen: bool = True  #: the process is stopped; otherwise only the step waits

    def __str__(self) -> str:
        return f"{self.method} of {self.step}, {self.when}"


@dataclass(frozen=True)
class Errand:
    """What a worker's process is told."""

    directory: Path
    host: str
    log: Path
    settings: dict[str, Any] = field(default_factory=dict)
    stop: Stop | None = None
    refused: bool = False  #: the hand-over is refused, whoever asks for it
    noting: bool = False  #: each place that is passed goes into the ledger


class Standstill:
    """Lets this process stand still at one place, unless an earlier one did."""

    def __init__(self, errand: Errand, ledger: Ledger) -> None:
        self._errand = errand
        self._stop = errand.stop
        self._directory = errand.directory
        self._ledger = ledger
        self._now = threading.local()

    def at(self, when: str) -> None:
        """Stand still here, if here it is."""
        here = getattr(self._now, "step", None)
        if self._errand.noting and here is not None:
            self._ledger.add(self._errand.host, PASSES + "|".join((*here, when)))
        stop = self._stop
        if stop is None or here != (stop.method, stop.step) or when != stop.when:
            return
        marker = self._directory / "stopped"
        try:
            descriptor = os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        os.close(descriptor)
        if stop.frozen:
            # to this thread: sent to the process, another may take it, and this one runs on for a moment
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            return
        deadline = time.monotonic() + PATIENCE_S
        while not (self._directory / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def around(self, method: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a step's body with places to stand still."""

        def body(task: HostTask, leg: Leg, *arguments: Any, **named: Any) -> Any:
            self._now.step = (method, task.name)
            try:
                self.at("before")
                result = real(task, leg, *arguments, **named)
                self.at("after")
                return result
            finally:
                if self._stop and (method, task.name) == (self._stop.method, self._stop.step):
                    (self._directory / "left").touch()
                self._now.step = None

        # TaskFlow reads a step's arguments from its signature.
        body.__wrapped__ = real  # type: ignore[attr-defined]
        return body


def host_of(directory: Path, name: str, ledger: Ledger) -> FakeHost:
    """Return a host as each of its processes sees it."""
    others = [directory / other for other in ADDRESSES if other != name]
    (directory / name).mkdir(parents=True, exist_ok=True)
    return fake_host(
        directory,
        name,
        ADDRESSES[name],
        KeptHypervisor(name, directory=directory / name, others=others, ledger=ledger),
        KeptVolumes(name, directory=directory / name, ledger=ledger),
        KeptNotifications(name, ledger=ledger),
    )


def keep_audit(stand: Standstill, ledger: Ledger, host: str) -> None:
    """Add a row for each write, in the same transaction: so what is there was accepted, in this order.

    With it goes the epoch that the transaction's fence had; without a fence it is NULL.
    """

    @event.listens_for(Engine, "begin")
    def begun(connection: Connection) -> None:
        connection.info.pop("epoch", None)

    @event.listens_for(Engine, "after_cursor_execute")
    def written(
        connection: Connection, cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool
    ) -> None:
        found = _DML.match(statement)
        if found is None:
            return
        if found[2] == "fences":
            named = context.compiled_parameters[0]
            if cursor.rowcount != 1:
                ledger.add(host, "refused by the fence")
                return
            connection.info["epoch"] = named.get("to_epoch") or named["at_epoch"]
        if cursor.rowcount == 0:
            return
        epoch = connection.info.get("epoch", "NULL")
        what = f"{found[1].split()[0].lower()} {found[2]}"
        raw: Any = connection.connection.cursor()
        raw.execute(f"INSERT INTO audit (pid, what, epoch) VALUES ({os.getpid()}, '{what}', {epoch})")
        raw.close()
        if found[2] == "fences":
            stand.at("writing")


def stand_still_in_steps(stand: Standstill) -> None:
    """Give every step of every flow its places."""
    for kind in {type(task) for name in flows.FLOWS for task in flows.FLOWS[name]()}:
        for method in {"execute", "revert"} & vars(kind).keys():
            real = vars(kind)[method].__wrapped__
            setattr(kind, method, base._guarded(stand.around(method, real), method))


def tell_session(errand: Errand) -> None:
    """Leave number and password of the worker's session in a file: whoever knows both can end it."""
    real = worker.connect

    def connect(conf: cfg.ConfigOpts) -> KazooClient:
        client = real(conf)

        def told(_state: str) -> None:
            if client.client_id is None:
                return
            number, password = client.client_id
            draft = errand.directory / f"{errand.host}.session.new"
            draft.write_text(json.dumps([number, password.hex()]))
            draft.replace(errand.directory / f"{errand.host}.session")

        client.add_listener(told)
        told(KazooState.CONNECTED)
        return client

    worker.connect = connect


def announce_copies(host: FakeHost, about: Callable[[], None]) -> None:
    """Give what receives and sends images its places, too."""

    def announced(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            about()
            return real(*arguments, **named)

        return call

    for driver, names in ((host.receiver, ("open", "close", "forget")), (host.sender, ("send",))):
        for name in names:
            setattr(driver, name, announced(getattr(driver, name)))


def refuse_hand_over() -> None:
    """Let the hand-over fail before it does anything."""
    from hostler.tasks.guest import HandOver

    def refused(_task: HostTask, leg: Leg, inventory: dict[str, Any]) -> None:
        raise MigrationError("on purpose")

    setattr(HandOver, "execute", base._guarded(refused, "execute"))  # noqa: B010 - mypy minds the other way


def work(errand: Errand) -> None:
    """Be a host's worker: the target of a process."""
    log = os.open(errand.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format=f"{os.getpid()} %(asctime)s %(levelname)s %(message)s"
    )
    conf = settings.load(["/dev/null"])
    for name, value in errand.settings.items():
        group, _, option = name.rpartition("__")
        conf.set_override(option, value, group or None)
    ledger = Ledger(errand.directory / "ledger")
    stand = Standstill(errand, ledger)
    ledger.about = lambda: stand.at("effect")

    def before(action: str) -> None:
        if action.split()[0] in ("rename", "rmtree"):
            ledger.about()
            ledger.add(errand.host, action.replace(str(errand.directory), ""))

    disk.step = before
    # A stopped process does not obey; it need not be waited for that long here.
    processes.TERM_PATIENCE_S = 0.1
    if errand.refused:
        refuse_hand_over()
    stand_still_in_steps(stand)
    keep_audit(stand, ledger, errand.host)
    host = host_of(errand.directory, errand.host, ledger)
    announce_copies(host, ledger.about)
    tell_session(errand)
    assembly.make_drivers = lambda _conf: host.drivers
    worker.run(conf)
