"""What every step has in common: the host it belongs to, and what it finds there."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from taskflow import task

from hostler.drivers.claims import Claims
from hostler.drivers.files import InstanceFiles
from hostler.drivers.hypervisor import Hypervisor
from hostler.drivers.images import ImageReceiver, ImageSender, ImageVerifier
from hostler.drivers.notifications.news import News
from hostler.drivers.ports import Ports
from hostler.drivers.volumes import Volumes
from hostler.errors import HostlerError, Interrupted, Park, Passing, Unreachable, and_then
from hostler.objects import DEST, SOURCE, Flavor
from hostler.records.fence import FencedRecords, Journal
from hostler.records.models import Migration

LOG = logging.getLogger(__name__)

#: How long a job of somebody else on the domain is waited for, and how often it is looked at.
IDLE_TIMEOUT_S = 30.0
IDLE_PAUSE_S = 0.2

__all__ = ["DEST", "SOURCE", "Drivers", "HostTask", "Leg", "MigrationFacts", "Timeouts"]


@dataclass(frozen=True)
class MigrationFacts:
    """What does not change about a migration."""

    uuid: str
    flow: str  #: uuid of the flow that is under way
    instance: str
    name: str  #: of the server, as it was asked for
    source: str
    dest: str
    migration_type: str
    old_vm_state: str
    request_id: str
    old_flavor: Flavor | None = None  #: of a resize: what the server had
    new_flavor: Flavor | None = None  #: of a resize: what it is to have; None: its size stays
    #: what networks and bridges are called on the destination, as the request says: :mod:`hostler.networks`
    network_map: Mapping[str, str] = field(default_factory=dict)

    @property
    def same_host(self) -> bool:
        """Whether the server is resized where it is: one host plays both roles."""
        return self.source == self.dest

    @classmethod
    def of(cls, row: Migration) -> MigrationFacts:
        """Return the facts of a migration's record."""
        return cls(
            uuid=row.uuid,
            flow=row.flow_uuid,
            instance=row.instance_uuid,
            name=row.instance_name,
            source=row.source_compute,
            dest=row.dest_compute,
            migration_type=row.migration_type,
            old_vm_state=row.old_vm_state or "",
            request_id=row.request_id,
            old_flavor=Flavor.from_dict(row.old_flavor) if row.old_flavor else None,
            new_flavor=Flavor.from_dict(row.new_flavor) if row.new_flavor else None,
            network_map=row.network_map or {},
        )


@dataclass(frozen=True)
class Timeouts:
    """How long steps wait, in seconds, and how often they are tried."""

    shutdown_s: float
    shutdown_retry_s: float
    guest_start_s: float
    copy_s: float
    max_attempts: int = 3  #: claims without progress before a job is parked
    vif_plugging_s: float = 0  #: for what a port's service says of its plugging; 0: it is not waited for
    vif_plugging_is_fatal: bool = True  #: whether the migration walks back where it says nothing


@dataclass(frozen=True)
class Drivers:
    """What a host offers to the steps that run on it."""

    hypervisor: Hypervisor
    files: InstanceFiles
    receiver: ImageReceiver
    sender: ImageSender
    verifier: ImageVerifier
    volumes: Volumes
    ports: Ports
    claims: Claims
    notifications: News


class Leg(Protocol):
    """One host's turn at a migration, as its steps see it: they get it as their argument *leg*."""

    host: str
    migration: MigrationFacts
    records: FencedRecords
    drivers: Drivers
    timeouts: Timeouts
    state_path: str
    #: descriptor of the host's lock on the server: a program that acts on its files for us inherits it
    lock: int | None

    def checkpoint(self) -> None:
        """Return if the step may go on; wait while ZooKeeper is silent; raise Interrupted if the leg must end."""

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the leg may go on."""

    def cancellable(self) -> AbstractContextManager[None]:
        """Let :meth:`checkpoint` raise :class:`~hostler.errors.Cancelled` inside, if an operator wishes it."""


class HostTask(task.Task):
    """A step that belongs to one of a migration's two hosts.

    Its class docstring names what undoes it, after "Reverts by:". ``execute`` and ``revert`` may both be killed
    anywhere and run again: they tell done, half and not from the world and from the journal.
    """

    #: No step reports its progress through TaskFlow: a listener would be shared by all legs that run the step.
    TASK_EVENTS = ()

    #: Role of the host it runs on, unless given to the constructor.
    where: ClassVar[str] = SOURCE
    #: What this step does, where its class serves several; else the docstring's first sentence says it.
    does: str = ""
    #: What undoes it, where that differs from what the docstring says.
    undo: str = ""
    #: Raised when a step of this name comes to mean something else: what was posted with the one before is then
    #: left to the version that posted it.
    revision: ClassVar[int] = 1
    #: A call of a worker that died may still be at work on the domain: wait until nobody's is.
    touches_domain: ClassVar[bool] = False
    #: Taken as done although it is not, or as undone, it would cost data: no operator may skip it.
    guards_data: ClassVar[bool] = True
    #: Its undo touches the records or a service, and no host: where its own host is dead, the other one does it.
    undone_anywhere: ClassVar[bool] = False
    #: Its failure speaks against the destination: where the operator named none, the next one is tried.
    elsewhere: ClassVar[bool] = False
    #: There is no way back behind it: it is tried again, and then an operator decides.
    forward_only: ClassVar[bool] = False
    #: After it has succeeded nothing before it is undone.
    point_of_no_return: ClassVar[bool] = False

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name or type(self).__name__, **kwargs)
        self.version = (self.revision, 0)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for method in ("execute", "revert"):
            if method in cls.__dict__:
                setattr(cls, method, _guarded(cls.__dict__[method], method))

    def journal(self, leg: Leg) -> Journal:
        """Return what this step has written ahead."""
        return leg.records.journal(self.name)


def _guarded(method: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Say in the log what a step does, and turn what must not undo the flow into an interruption."""

    @functools.wraps(method)
    def guarded(self: HostTask, leg: Leg, *args: Any, **kwargs: Any) -> Any:
        leg.checkpoint()
        may_be_cancelled = kind == "execute" and not (self.forward_only or self.point_of_no_return)
        what = f"{self.name}" if kind == "execute" else f"undo of {self.name}"
        LOG.info("%s: %s", leg.migration.name, what)
        began = time.monotonic()
        try:
            if self.touches_domain:
                _wait_until_idle(leg)
            with leg.cancellable() if may_be_cancelled else nullcontext():
                result = method(self, leg, *args, **kwargs)
        except Passing as error:
            raise Unreachable(str(error)) from error
        except Interrupted as error:
            LOG.warning("%s: %s was interrupted: %s", leg.migration.name, what, error)
            raise
        except Exception as error:
            LOG.warning("%s: %s failed: %s", leg.migration.name, what, error)
            if self.forward_only:
                raise _parked(self, leg, error) from error
            raise
        LOG.info("%s: %s done in %.1f s", leg.migration.name, what, time.monotonic() - began)
        return result

    return guarded


def _wait_until_idle(leg: Leg) -> None:
    """Wait until no job is active on the domain, and look twice: a request outlives whoever made it."""
    deadline = time.monotonic() + IDLE_TIMEOUT_S
    quiet = 0
    while quiet < 2:
        quiet = 0 if leg.drivers.hypervisor.busy(leg.migration.instance) else quiet + 1
        if time.monotonic() > deadline:
            raise Unreachable(f"somebody's job on server {leg.migration.name!r} does not end on {leg.host}")
        if quiet == 0:
            leg.pause(IDLE_PAUSE_S)


def _parked(step: HostTask, leg: Leg, error: Exception) -> Park:
    return Park(f"{step.name} on {leg.host}: {error}", [retry_once_mended(leg, error)])


def retry_once_mended(leg: Leg, error: Exception) -> str:
    """Return what to type about a step that could not be done: what its error says, and then to retry."""
    retry = f"hostler migration retry {leg.migration.uuid}"
    return and_then(error.hint, retry) if isinstance(error, HostlerError) else retry
