"""What an error is called stands in records, which workers of other versions read."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
from taskflow.types.failure import Failure

from hostler import errors


def every(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    """Give *kind* and all its leaves."""
    yield kind
    for leaf in kind.__subclasses__():
        yield from every(leaf)


TREE = sorted({*every(errors.HostlerError), *every(errors.Interrupted)}, key=lambda kind: kind.__name__)
OWN = [kind for kind in TREE if kind.__module__.startswith("hostler.errors")]


@pytest.mark.parametrize("kind", OWN)
def test_an_error_is_known_by_the_name_that_it_always_had(kind: type[BaseException]) -> None:
    assert kind.__module__ == "hostler.errors"
    assert getattr(errors, kind.__name__) is kind


def test_the_record_of_a_failure_names_the_whole_line() -> None:
    failure = Failure.from_exception(errors.InstanceIsLocked(server="web1", who="alice", reason=""))
    assert failure.to_dict()["exc_type_names"] == [
        "hostler.errors.InstanceIsLocked",
        "hostler.errors.Refused",
        "hostler.errors.HostlerError",
        "Exception",
    ]


def test_a_copy_of_an_error_is_the_error() -> None:
    error = errors.ComputeResourcesUnavailable(host="kvm2", resource="memory", need=2, free=1, unit="MiB")
    again = copy.copy(error)
    assert (type(again), str(again), again.hint) == (type(error), str(error), error.hint)
