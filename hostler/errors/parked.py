"""Parked: a migration that needs an operator."""

from __future__ import annotations

from hostler.errors.base import HostlerError


class NeedsOperator(HostlerError):
    """The migration was parked. *commands*: what resolves it, best first."""

    exit_code = 5


class FlowUnreadable(NeedsOperator):
    """The record of a flow is damaged, or was written by a version that this one does not know."""

    template = "flow {flow} cannot be read: {reason}"


class StepNotFound(NeedsOperator):
    """A flow was posted by a version with another step of that name, or with one that this version has not."""

    template = (
        "this version of hostler has no step {step!r} ({version}):"
        " let the version that posted it finish the migration"
    )


class MigrationParked(NeedsOperator):
    template = "migration {migration} was parked at {step}: {reason}"
    hint_template = "hostler migration show {migration}"
