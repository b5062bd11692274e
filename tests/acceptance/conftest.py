"""Two real hosts for the acceptance tests: libvirt, QEMU, ZooKeeper, one database, a worker on each."""

import fcntl
import os
from collections.abc import Iterator

import pytest

from lab import Host, Lab
from lab.places import BASE, CHECKOUT
from lab.switch import identity_of
from tests.support.operator import wait_ready

#: Short waits, since what they wait for does not come; and room for many small guests.
SETTINGS = """
[DEFAULT]
cpu_allocation_ratio = 64
shutdown_timeout = 6
shutdown_retry_interval = 2

[database]
connect_timeout = 20

[zookeeper]
session_timeout = 5

[images]
timeout = 24
keep_copies = 0
"""


@pytest.fixture(scope="session")
def standing_lab() -> Iterator[Lab]:
    """The lab of this process, up for the whole run; what a crashed run left is cleaned first."""
    # Where pytest-xdist runs several processes, each has a lab of its own.
    directory = BASE / f"test-{identity_of(CHECKOUT)}{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    BASE.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab = Lab(directory, disk_size="200G", settings=SETTINGS)
        lab.down()
        with lab:
            lab.up(workers=True)
            wait_ready(*lab.hosts)
            yield lab


@pytest.fixture
def lab(standing_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab, whole and without guests before and after each test."""
    request.node.stash[LAB] = standing_lab
    _make_whole(standing_lab)
    yield standing_lab
    _make_whole(standing_lab)


@pytest.fixture
def kvm1(lab: Lab) -> Host:
    """The first host."""
    return lab.host("kvm1")


@pytest.fixture
def kvm2(lab: Lab) -> Host:
    """The second host."""
    return lab.host("kvm2")


LAB = pytest.StashKey[Lab]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # pragma: no cover - only when a test fails
    """Add what the workers said to the report of a failed test."""
    report = yield
    lab = item.stash.get(LAB, None)
    if report.failed and lab is not None:
        for host in lab.hosts:
            log = host.worker_log() if host.is_on else "(off)"
            report.sections.append((f"{host.name}: worker.log", log))
    return report


def _make_whole(lab: Lab) -> None:
    if not lab.zookeeper.is_on:
        lab.zookeeper.start()
    for host in lab.hosts:
        host.power_on()
        host.mend_link()
        host.slow_link(None)
        host.free_disk()
        host.remove_guests()
        host.start_worker()
