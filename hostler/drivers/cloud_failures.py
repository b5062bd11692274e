"""What becomes of a step when a service of the cloud is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hostler.errors import CloudServiceFailed, ServerUnreachable


@contextmanager
def failing(service: str) -> Iterator[None]:
    """Let the migration walk back if *service* is away, where that is better than to wait for it."""
    try:
        yield
    except ServerUnreachable as error:
        raise CloudServiceFailed(service=service, reason=str(error)) from error
