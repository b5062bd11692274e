"""The scheduler: asks the filters and weighers of the settings about every host."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Container, Iterable
from dataclasses import dataclass

from oslo_config import cfg
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hostler import plugins
from hostler.errors import BadConfiguration, MigrationPreCheckError, NoValidHost, hints_of
from hostler.objects import HostCapabilities, Record
from hostler.records import hosts
from hostler.records.hosts import Amounts
from hostler.records.models import Host, Migration
from hostler.scheduling import Filter, HostState, Request, Weigher

LOG = logging.getLogger(__name__)

_NOTHING = Amounts(0, 0, 0)


@dataclass(frozen=True)
class Candidate(Record):
    """What was found of one host."""

    host: str
    weight: float | None = None  #: of those that can have the server; more is better
    reason: str | None = None  #: why it cannot have it
    next: str | None = None  #: what to type about that


@dataclass(frozen=True)
class Weighing:
    """A weigher and how much it counts."""

    name: str
    weigher: Weigher
    multiplier: float


class Scheduler:
    """Finds the best host. *filters* by their names, in the order in which they are asked."""

    def __init__(
        self,
        filters: dict[str, Filter],
        weighings: Iterable[Weighing],
        max_attempts: int = 3,
        *,
        resizes_in_place: bool = True,
    ) -> None:
        self._filters = filters
        self._weighings = list(weighings)
        self.max_attempts = max_attempts
        self.resizes_in_place = resizes_in_place  #: a server that is resized may stay on its host

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Scheduler:
        """Load what the settings name; an unknown name is :class:`~hostler.errors.BadConfiguration`."""
        where = "[scheduler] filters"
        filters = {
            name: plugins.load("hostler.filters", name, where=where, kind="filter")
            for name in conf.scheduler.filters
        }
        weighings = [_weighing(name, text) for name, text in conf.scheduler.weighers.items()]
        return cls(
            filters,
            weighings,
            conf.scheduler.max_attempts,
            resizes_in_place=conf.allow_resize_to_same_host,
        )

    def candidates(self, session: Session, request: Request, alive: Container[str]) -> list[Candidate]:
        """Return what is found of every host: the best first, then those that cannot have it, by name."""
        fit, found = [], []
        for host in states(session, alive):
            if (reason := self._reason(host, request)) is None:
                fit.append(host)
            else:
                found.append(_refused(host.name, reason))
        weighed, failed = self._weigh(fit, request)
        weighed.sort(key=lambda one: (-(one.weight or 0.0), one.host))
        return weighed + sorted(found + failed, key=lambda one: one.host)

    def choose(self, session: Session, request: Request, alive: Container[str]) -> list[str]:
        """Return the hosts that can have the server, the best first; :class:`~hostler.errors.NoValidHost` if none."""
        found = self.candidates(session, request, alive)
        fit = [one.host for one in found if one.reason is None]
        if not fit:
            raise NoValidHost(server=request.server, reasons=reasons(found), hint=request.dry_run)
        return fit

    def _reason(self, host: HostState, request: Request) -> str | None:
        if tried := request.excluded.get(host.name):
            return f"it was tried: {tried}"
        for name, one in self._filters.items():
            try:
                reason = one(host, request)
            except Exception as error:
                LOG.exception("filter %s failed on host %s", name, host.name)
                return f"filter {name} failed: {type(error).__name__}: {error}"
            if reason is not None:
                return reason or f"filter {name} refused it without a reason"
        return None

    def _weigh(self, fit: list[HostState], request: Request) -> tuple[list[Candidate], list[Candidate]]:
        """Return the hosts with their weights, and those of which a weigher could not say any."""
        weights: dict[str, list[float]] = {}
        failed = []
        for host in fit:
            try:
                weights[host.name] = [_ask(one, host, request) for one in self._weighings]
            except Exception as error:
                LOG.exception("host %s could not be weighed", host.name)
                failed.append(_refused(host.name, f"a weigher failed: {type(error).__name__}: {error}"))
        total = dict.fromkeys(weights, 0.0)
        for number, weighing in enumerate(self._weighings):
            column = {host: found[number] for host, found in weights.items()}
            for name, share in _shares(column).items():
                total[name] += weighing.multiplier * share
        return [Candidate(host, weight=round(weight, 4)) for host, weight in total.items()], failed


def reasons(candidates: Iterable[Candidate]) -> dict[str, str]:
    """Return why not, by host, of those that cannot have the server."""
    return {one.host: one.reason for one in candidates if one.reason is not None}


def states(session: Session, alive: Container[str]) -> list[HostState]:
    """Return every host as the records have it, by name."""
    used, arriving = hosts.used_everywhere(session), _arriving(session)
    return [
        HostState(
            name=host.name,
            alive=host.name in alive,
            free=hosts.capacity(host) - used.get(host.name, _NOTHING),
            disabled_reason=host.disabled_reason,
            capabilities=_capabilities(host),
            arriving=arriving.get(host.name, 0),
        )
        for host in hosts.all_hosts(session)
    ]


def _refused(host: str, reason: str) -> Candidate:
    (following,) = hints_of([reason], MigrationPreCheckError([], host=host).hint)
    return Candidate(host, reason=str(reason), next=following)


def _arriving(session: Session) -> dict[str, int]:
    under_way = (Migration.phase.in_(("posting", "open", "parked")), Migration.migration_type != "dry-run")
    counts = select(Migration.dest_compute, func.count()).where(*under_way).group_by(Migration.dest_compute)
    return {row[0]: row[1] for row in session.execute(counts)}


def _capabilities(host: Host) -> HostCapabilities | None:
    if not host.capabilities:
        return None
    # a newer worker may tell more than this version knows
    known = {one.name for one in dataclasses.fields(HostCapabilities)}
    return HostCapabilities.from_dict({key: host.capabilities[key] for key in known & set(host.capabilities)})


def _weighing(name: str, text: str) -> Weighing:
    where = "[scheduler] weighers"
    try:
        multiplier = float(text)
    except ValueError:
        multiplier = math.nan
    if not math.isfinite(multiplier):
        raise BadConfiguration(where=where, problem=f"{name}:{text}: the multiplier is not a number")
    return Weighing(name, plugins.load("hostler.weighers", name, where=where, kind="weigher"), multiplier)


def _ask(weighing: Weighing, host: HostState, request: Request) -> float:
    weight = float(weighing.weigher(host, request))
    if not math.isfinite(weight):
        raise ValueError(f"{weighing.name} says {weight}")
    return weight


def _shares(column: dict[str, float]) -> dict[str, float]:
    """Return each weight between that of the worst (0) and of the best (1), so that units do not matter."""
    low, high = min(column.values(), default=0.0), max(column.values(), default=0.0)
    return {host: (weight - low) / (high - low) if high > low else 0.0 for host, weight in column.items()}
