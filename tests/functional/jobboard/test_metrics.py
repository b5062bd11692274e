"""What a real worker tells whoever scrapes it: before, during and after a migration, and with its servers away."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url

from hostler.errors import BadConfiguration
from hostler.jobboard.worker import Worker
from hostler.metrics.catalogue import METRICS
from hostler.tasks.base import Leg
from lab.process import wait_until
from lab.sockets import free_port
from tests.functional.jobboard.yard import FLOW, STEPS, Yard, told
from tests.support.cable import Cable

Labels = dict[str, str]


class Page:
    """What one scrape has brought."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [one for family in text_string_to_metric_families(text) for one in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the one series with these labels; None if there is none."""
        found = [
            one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items()
        ]
        assert len(found) < 2, f"{name} {labels} is not one series"
        return found[0] if found else None

    def steps(self, direction: str) -> dict[str, float]:
        """Return how often each step of the tests' flow has ended."""
        counted = [one for one in self.samples if one.name == "hostler_step_seconds_count"]
        return {
            one.labels["step"]: one.value
            for one in counted
            if one.labels["flow"] == FLOW and one.labels["direction"] == direction
        }


def get(port: int, path: str, verb: str = "GET") -> tuple[int, str]:
    """Return status and text of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(verb, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def scrape(port: int) -> Page:
    status, text = get(port, "/metrics")
    assert status == 200
    return Page(text)


@pytest.fixture
def port() -> int:
    return free_port()


def start(yard: Yard, host: str, port: int) -> Worker:
    """Start a worker whose page is new whenever it is asked for a second later."""
    worker, _ = yard.start_worker(host, metrics__port=port, metrics__keep=1.0)
    wait_until(lambda: get(port, "/readyz")[0] == 200, f"{host} to be ready", 20)
    return worker


def wait_for(port: int, condition: Callable[[Page], bool], what: str) -> Page:
    """Scrape until *condition* holds; return that page."""
    pages: list[Page] = []

    def holds() -> bool:
        pages.append(scrape(port))
        return condition(pages[-1])

    wait_until(holds, what, 20)
    return pages[-1]


def test_a_migration_is_counted_while_it_runs_and_when_it_is_over(any_yard: Yard) -> None:
    ports = {host: free_port() for host in ("kvm1", "kvm2")}
    entered, gate = threading.Event(), threading.Event()

    def hold(leg: Leg) -> None:
        entered.set()
        while not gate.wait(0.02):
            leg.checkpoint()

    with told(during={"send": hold}):
        for host, port in ports.items():
            start(any_yard, host, port)
        migration = any_yard.ask()
        assert entered.wait(20)
        # The destination says the same of the whole installation.
        wait_for(
            ports["kvm2"],
            lambda page: page.value("hostler_migrations", phase="open") == 1,
            "the open migration",
        )
        during = wait_for(
            ports["kvm1"],
            lambda page: page.value("hostler_migration_oldest_seconds", phase="open") not in (None, 0),
            "its age",
        )
        assert during.value("hostler_turns_under_way") == 1
        assert during.value("hostler_queue_jobs") == 0
        assert during.value("hostler_turns_total", end="handed over") == 1
        assert during.steps("execute") == {"look": 1, "stop": 1}
        gate.set()
        row = any_yard.wait_for_end(migration)
        assert row.outcome == "success"
        after = wait_for(
            ports["kvm2"],
            lambda page: (
                page.value("hostler_migrations", phase="open") is None
                and page.value("hostler_turns_total", end="finished") == 1
            ),
            "the end",
        )
    source = scrape(ports["kvm1"])
    assert source.steps("execute") | after.steps("execute") == {name: 1 for name, _ in STEPS}
    assert after.value("hostler_migrations_ended_total", flow=FLOW, outcome="success") == 1
    assert source.value("hostler_turns_total", end="handed over") == 2
    assert after.value("hostler_migration_oldest_seconds", phase="open") == 0
    assert after.value("hostler_zookeeper_connected") == 1
    for page in (during, after):
        assert migration not in page.text
        assert row.instance_uuid not in page.text
        assert row.instance_name not in page.text


def test_a_failure_is_counted_with_its_way_back_and_a_parked_one_stays_seen(yard: Yard, port: int) -> None:
    other = free_port()
    with told(failing={"claim"}, undo_failing={"look"}):
        start(yard, "kvm1", port)
        start(yard, "kvm2", other)
        before = scrape(port)
        assert before.value("hostler_step_failures_total", flow=FLOW, step="look", direction="revert") == 0
        assert before.value("hostler_migrations_ended_total", flow=FLOW, outcome="parked") == 0
        yard.wait_for_end(yard.ask())
    parked = wait_for(port, lambda page: page.value("hostler_migrations", phase="parked") == 1, "it")
    assert parked.value("hostler_migrations_ended_total", flow=FLOW, outcome="parked") == 1
    assert parked.value("hostler_step_failures_total", flow=FLOW, step="look", direction="revert") == 1
    there = scrape(other)
    assert there.value("hostler_step_failures_total", flow=FLOW, step="claim", direction="execute") == 1
    assert there.steps("revert") == {"claim": 1}


def test_a_job_that_finds_no_room_is_seen_to_wait(yard: Yard, port: int) -> None:
    gate = threading.Event()

    def hold(leg: Leg) -> None:
        while not gate.wait(0.02):
            leg.checkpoint()

    with told(during={"look": hold}):
        yard.start_worker("kvm1", metrics__port=port, max_concurrent_migrations=1)
        for _ in range(3):
            yard.ask()
        wait_for(port, lambda page: page.value("hostler_queue_jobs") == 2, "two that wait")
        page = wait_for(port, lambda page: bool(page.value("hostler_queue_oldest_seconds")), "how long")
        assert page.value("hostler_turns_under_way") == page.value("hostler_turns_limit") == 1
        gate.set()
        wait_for(port, lambda page: page.value("hostler_turns_total", end="handed over") == 3, "all three")
        wait_for(port, lambda page: page.value("hostler_queue_oldest_seconds") == 0, "an empty board")


# -- what is away -----------------------------------------------------------------------------------------


@pytest.fixture
def cable(new_postgres_database: Callable[[], str]) -> Iterator[tuple[Cable, str]]:
    """A database behind a cable, and its URL there."""
    url = make_url(new_postgres_database())
    with Cable(url.host or "", url.port or 0) as made:
        yield made, url.set(host="127.0.0.1", port=made.port).render_as_string(hide_password=False)


def test_a_scrape_with_the_database_away_answers_still(
    tmp_path: Path, zookeeper_hosts: str, cable: tuple[Cable, str], port: int
) -> None:
    line, url = cable
    with Yard(tmp_path, zookeeper_hosts, url) as yard, told():
        start(yard, "kvm1", port)
        assert scrape(port).value("hostler_records_up") == 1
        line.pull()
        try:
            page = wait_for(port, lambda page: page.value("hostler_records_up") == 0, "the outage")
            assert page.value("hostler_servers") is None
            assert page.value("hostler_zookeeper_connected") == 1
            wait_until(
                lambda: get(port, "/readyz") == (503, "the database does not answer\n"), "its word", 20
            )
            assert get(port, "/healthz") == (200, "ok\n")
        finally:
            line.plug()
        wait_until(lambda: get(port, "/readyz")[0] == 200, "the worker to be ready again", 30)
        assert scrape(port).value("hostler_records_up") == 1


def test_a_worker_that_zookeeper_has_lost_is_not_ready(
    tmp_path: Path, zookeeper_hosts: str, port: int
) -> None:
    address, number = zookeeper_hosts.split(":")
    records = f"sqlite:///{tmp_path}/records.db"
    with Cable(address, int(number)) as line, Yard(tmp_path, zookeeper_hosts, records) as yard, told():
        yard.zookeeper_hosts = f"127.0.0.1:{line.port}"
        start(yard, "kvm1", port)
        line.pull()
        wait_until(lambda: get(port, "/readyz") == (503, "ZooKeeper does not answer\n"), "its word", 20)
        assert scrape(port).value("hostler_zookeeper_connected") == 0
        assert get(port, "/healthz")[0] == 200
        line.plug()
        wait_until(lambda: get(port, "/readyz")[0] == 200, "the worker to be ready again", 30)
        assert scrape(port).value("hostler_zookeeper_connected") == 1


# -- the door ---------------------------------------------------------------------------------------------


def test_only_get_is_answered_and_a_taken_port_is_refused(yard: Yard, port: int) -> None:
    start(yard, "kvm1", port)
    assert get(port, "/metrics", "POST")[0] == 405
    assert get(port, "/metrics", "DELETE")[0] == 405
    assert get(port, "/../etc/passwd")[0] == 404
    with pytest.raises(BadConfiguration, match=f"port {port}.*in use"):
        Worker(yard.new_conf("kvm2", metrics__port=port), yard.database, yard.drivers["kvm2"]).run()
    assert {sample.name for sample in scrape(port).samples if sample.name.startswith("hostler")} <= {
        name for metric in METRICS.values() for name in (*metric.series, f"{metric.name}_created")
    }
