"""What is kept of servers on this host is removed when its time is over, or nobody can want it."""

from __future__ import annotations

import logging

from hostler.drivers.files import InstanceFiles
from hostler.drivers.files.kept import Kept
from hostler.records.database import Database
from hostler.records.models import Instance

LOG = logging.getLogger(__name__)


def drop_kept(database: Database, host: str, files: InstanceFiles) -> None:
    """Remove the kept copies whose time is over, of servers that are gone, and of those that are here by now."""
    with database.reading() as session:
        servers = {one.instance: session.get(Instance, one.instance) for one in files.kept()}
        hosts = {uuid: server.host for uuid, server in servers.items() if server is not None}

    def needless(kept: Kept) -> bool:
        # One that was kept since is looked at the next time.
        return kept.instance in servers and hosts.get(kept.instance) in (None, host)

    for kept in files.drop_kept(needless):
        LOG.info("the copy of server %s that migration %s had left is removed", kept.instance, kept.migration)
