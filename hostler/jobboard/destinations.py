"""The one way to a destination, for whatever moves a server."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hostler.jobboard import refusals
from hostler.records import fence, groups, hosts
from hostler.records.models import Migration
from hostler.scheduling import Request
from hostler.scheduling.scheduler import Scheduler


@dataclass(frozen=True)
class Destination:
    """Where a server is to go."""

    host: str
    #: what the scheduler would have taken otherwise, the best first; None: the operator named the host
    alternates: list[str] | None = None

    def put_down(self, session: Session, migration: Migration) -> None:
        """Write into a new migration's record whether others may be tried, and into its history which.

        The alternates themselves are no part of the record: after a failure the scheduler looks again, at what
        is alive and free then.
        """
        if self.alternates is None:
            return
        migration.excluded = {}
        others = f"; it could have been {', '.join(self.alternates)}" if self.alternates else ""
        fence.add_event(session, migration.uuid, "", "scheduled", f"{self.host} was chosen{others}")


def choose(
    scheduler: Scheduler, session: Session, request: Request, dest: str | None, workers: Container[str]
) -> Destination:
    """Return the host that the operator named, if nothing on record speaks against it, or the scheduler's.

    *request* says what the server will need there.
    """
    if dest is None:
        best, *alternates = scheduler.choose(session, request, workers)
        return Destination(best, alternates[: scheduler.max_attempts - 1])
    refusals.unless_mapped(session, request, dest)
    hosts.check_room(session, hosts.get(session, dest), request.need_on(dest))
    groups.check(session, request.uuid, dest)
    return Destination(dest)
