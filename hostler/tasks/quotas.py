"""The project's quota."""

from __future__ import annotations

from typing import Any

from hostler.records import instances, quotas
from hostler.records.quotas import Usage
from hostler.tasks.base import DEST, HostTask, Leg


class ReserveQuota(HostTask):
    """Hold what the server will use more than before for its project; a server that stays as it is needs nothing.

    Reverts by: letting go of it there and then.
    """

    guards_data = False
    undone_anywhere = True
    where = DEST

    def execute(self, leg: Leg, quota_delta: dict[str, Any] | None = None) -> None:
        """Hold it; a project that has not that much left is a refusal. *quota_delta*: a usage, from who asked."""
        if quota_delta is None:
            return
        with leg.records.transaction() as session:
            project = instances.get(session, leg.migration.instance).project_id
            quotas.reserve(session, leg.migration.uuid, project, Usage.from_dict(quota_delta))

    def revert(self, leg: Leg, quota_delta: dict[str, Any] | None = None, **_: Any) -> None:
        """Let go; nothing if nothing is held."""
        if quota_delta is not None:
            with leg.records.transaction() as session:
                quotas.roll_back(session, leg.migration.uuid)
