"""Choosing a server's next host, where the operator names none.

*Filters* say why a host cannot have the server; of those that remain *weighers* say which is best. Both are functions
that look at the records and at who is alive, and ask no host: the last word has the host itself, in the checks of the
migration, and where it refuses the next one is tried. They are plug-ins: entry points of ``hostler.filters`` and
``hostler.weighers``, chosen and ordered by the section ``[scheduler]``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.orm import Session

from hostler import networks
from hostler.objects import HostCapabilities, Requirements
from hostler.records import groups
from hostler.records.groups import Membership
from hostler.records.hosts import Amounts
from hostler.records.models import Instance


@dataclass(frozen=True)
class Request:
    """What a host is wanted for."""

    server: str
    uuid: str
    source: str  #: the host that has it
    need: Amounts
    requirements: Requirements = field(default_factory=Requirements)
    membership: Membership | None = None  #: the server's group
    same_host: bool = False  #: its own host will do, too
    held: Amounts = field(default_factory=lambda: Amounts(0, 0, 0))  #: what it has of its own host now
    flavor: str | None = None  #: at a resize: the name of what it is to have
    excluded: Mapping[str, str] = field(
        default_factory=dict
    )  #: hosts that were tried before, and why not again
    #: what its networks are called there, as was asked for: :mod:`hostler.networks`
    network_map: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        session: Session,
        instance: Instance,
        need: Amounts | None = None,
        *,
        same_host: bool = False,
        flavor: str | None = None,
        excluded: Mapping[str, str] | None = None,
        network_map: Mapping[str, str] | None = None,
    ) -> Request:
        """Return the request for a server as the records have it; *need*: what it takes then, unless as much as now."""
        held = Amounts(instance.vcpus, instance.memory_mb, instance.disk_bytes)
        return cls(
            server=instance.name,
            uuid=instance.uuid,
            source=instance.host,
            need=need or held,
            held=held,
            flavor=flavor,
            requirements=Requirements.from_dict(instance.requirements or {}),
            membership=groups.membership(session, instance.uuid),
            same_host=same_host,
            excluded=excluded or {},
            network_map=network_map or {},
        )

    def need_on(self, host: str) -> Amounts:
        """Return what *host* must have left: its own one has given the server what it has now."""
        return self.need.beyond(self.held) if host == self.source else self.need

    @property
    def dry_run(self) -> str:
        """What to type to see of each host why not."""
        size = [] if self.flavor is None else ["--flavor", self.flavor]
        words = ["resize" if size else "migrate", *size, *networks.words(self.network_map), "--dry-run"]
        return shlex.join(["hostler", "server", *words, "--", self.server])


@dataclass(frozen=True)
class HostState:
    """A host as the records have it."""

    name: str
    alive: bool
    free: Amounts
    disabled_reason: str | None = None
    capabilities: HostCapabilities | None = None  #: None: its worker has not told yet
    arriving: int = 0  #: migrations to it that are under way


class Filter(Protocol):
    """Says why a host cannot have the server."""

    def __call__(self, host: HostState, request: Request) -> str | None:
        """Return a sentence about *host*, without its name; None if nothing speaks against it.

        A :class:`~hostler.errors.Problem` says what to type about it, too.
        """


class Weigher(Protocol):
    """Says how well a host would do."""

    def __call__(self, host: HostState, request: Request) -> float:
        """Return more for a better host, in any unit: hosts are compared with each other only."""
