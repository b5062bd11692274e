"""Which host is best, why the others are not, and what a plug-in that misbehaves costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session
from stevedore._cache import Cache
from stevedore.extension import ExtensionManager

from hostler import conf as settings
from hostler.errors import BadConfiguration, NoValidHost
from hostler.objects import HostCapabilities
from hostler.records import groups
from hostler.records.database import Database
from hostler.records.hosts import Amounts
from hostler.records.models import Claim, Host, Instance
from hostler.scheduling import HostState, Request, weighers
from hostler.scheduling.scheduler import Candidate, Scheduler, Weighing
from tests.records_made import make_host, make_instance, make_migration

HOSTS = ("kvm1", "kvm2", "kvm3", "kvm4")


@pytest.fixture
def web1(database: Database) -> str:
    """A server on kvm1, beside three empty hosts."""
    with database.transaction() as session:
        for name in HOSTS:
            make_host(session, name)
        return make_instance(session, "kvm1")


def ask(database: Database, server: str, scheduler: Scheduler | None = None, **facts: Any) -> list[Candidate]:
    scheduler = scheduler or Scheduler.from_conf(settings.load(["/dev/null"]))
    with database.reading() as session:
        request = Request.of(session, session.get_one(Instance, server), **facts)
        return scheduler.candidates(session, request, HOSTS)


def fit(found: list[Candidate]) -> list[str]:
    return [one.host for one in found if one.reason is None]


def reason(found: list[Candidate], host: str) -> str | None:
    return next(one.reason for one in found if one.host == host)


def test_the_emptiest_host_is_the_best_and_its_own_is_none(database: Database, web1: str) -> None:
    with database.transaction() as session:
        make_instance(session, "kvm2", name="other", vcpus=4, memory_mb=4096)
        make_instance(session, "kvm4", name="another", vcpus=2, memory_mb=2048)
    found = ask(database, web1)
    assert [one.host for one in found] == ["kvm3", "kvm4", "kvm2", "kvm1"]
    assert [one.weight for one in found] == [2.0, 1.0, 0.0, None]
    assert reason(found, "kvm1") == "the server is on it"


def test_what_is_on_its_way_counts(database: Database, web1: str) -> None:
    with database.transaction() as session:
        for dest in ("kvm2", "kvm2", "kvm3"):
            make_migration(session, make_instance(session, "kvm4", name="x"), dest_compute=dest)
        make_migration(session, web1, dest_compute="kvm3", migration_type="dry-run")
    found = {one.host: one.weight for one in ask(database, web1)}
    assert found["kvm3"] is not None
    assert found["kvm2"] is not None
    assert found["kvm3"] > found["kvm2"]


def test_room_that_a_claim_holds_is_taken(database: Database, web1: str) -> None:
    with database.transaction() as session:
        for name in ("kvm2", "kvm3"):
            session.add(Claim(migration_uuid=name, host=name, vcpus=8, memory_mb=0, disk_bytes=0))
    found = ask(database, web1)
    assert fit(found) == ["kvm4"]
    assert reason(found, "kvm2") == "it has not enough virtual CPUs: 1 vCPUs needed, 0 vCPUs free"


def test_a_host_that_was_tried_is_left_out_whatever_the_filters(database: Database, web1: str) -> None:
    found = ask(database, web1, Scheduler({}, []), excluded={"kvm2": "its disk is full"})
    assert fit(found) == ["kvm1", "kvm3", "kvm4"]
    assert reason(found, "kvm2") == "it was tried: its disk is full"


def test_equal_hosts_come_by_name(database: Database, web1: str) -> None:
    assert fit(ask(database, web1)) == ["kvm2", "kvm3", "kvm4"]


@pytest.mark.parametrize(
    ("policy", "best"), [("soft-affinity", "kvm3"), ("soft-anti-affinity", "kvm2"), ("anti-affinity", "kvm2")]
)
def test_a_group_draws_and_repels(database: Database, web1: str, policy: str, best: str) -> None:
    with database.transaction() as session:
        groups.create(session, "web", policy)
        web2 = make_instance(session, "kvm3", name="web2", vcpus=0, memory_mb=0)
        for server in (web1, web2):
            groups.add_member(session, "web", server)
    assert fit(ask(database, web1))[0] == best


def test_a_multiplier_below_zero_turns_a_weigher_round(database: Database, web1: str) -> None:
    with database.transaction() as session:
        make_instance(session, "kvm4", name="other", memory_mb=4096)
    conf = settings.load(["/dev/null"])
    conf.set_override("weighers", {"memory": "-1.5"}, "scheduler")
    found = ask(database, web1, Scheduler.from_conf(conf))
    assert found[0] == Candidate("kvm4", weight=0.0)
    assert found[1].weight == -1.5


def test_no_host_left_names_every_host_and_what_to_type(database: Database, web1: str) -> None:
    scheduler = Scheduler.from_conf(settings.load(["/dev/null"]))
    with database.transaction() as session:
        session.get_one(Host, "kvm3").disabled_reason = "repair"
    with database.reading() as session, pytest.raises(NoValidHost) as refused:
        request = Request.of(session, session.get_one(Instance, web1), excluded={"kvm4": "it burns"})
        scheduler.choose(session, request, {"kvm1", "kvm3"})
    assert str(refused.value) == (
        "no host can take server 'web1': kvm1: the server is on it; kvm2: no worker is alive on it;"
        " kvm3: it takes no new servers: repair; kvm4: it was tried: it burns"
    )
    assert refused.value.hint == "hostler server migrate --dry-run -- web1"
    with database.reading() as session:
        found = scheduler.candidates(session, request, {"kvm1", "kvm3"})
    assert [one.next for one in found] == [
        "hostler host list",
        "on kvm2: systemctl start hostler-worker",
        "hostler host list",
        "hostler host show kvm4",
    ]


# -- plug-ins that misbehave ------------------------------------------------------------------------------


def breaks(host: HostState, _request: Request) -> Any:
    if host.name == "kvm2":
        raise RuntimeError("no such\x1b host")


def silent(host: HostState, _request: Request) -> Any:
    return "" if host.name == "kvm2" else None


def test_a_filter_that_raises_costs_that_host_alone(database: Database, web1: str) -> None:
    found = ask(database, web1, Scheduler({"odd": breaks}, []))
    assert fit(found) == ["kvm1", "kvm3", "kvm4"]
    assert reason(found, "kvm2") == "filter odd failed: RuntimeError: no such\x1b host"


def test_a_filter_that_refuses_without_words_is_named(database: Database, web1: str) -> None:
    assert reason(ask(database, web1, Scheduler({"odd": silent}, [])), "kvm2") == (
        "filter odd refused it without a reason"
    )


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), None, "heavy", ZeroDivisionError()])
def test_a_weigher_that_gives_no_number_costs_that_host_alone(
    database: Database, web1: str, answer: Any
) -> None:
    def odd(host: HostState, _request: Request) -> Any:
        if host.name != "kvm2":
            return 1.0
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = ask(
        database, web1, Scheduler({}, [Weighing("odd", odd, 1.0), Weighing("m", weighers.memory, 1.0)])
    )
    assert fit(found) == ["kvm3", "kvm4", "kvm1"]
    assert str(reason(found, "kvm2")).startswith("a weigher failed: ")


def test_a_filter_of_another_distribution_is_found_by_name(
    database: Database, web1: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = settings.load(["/dev/null"])
    conf.set_override("filters", ["same_host", "gpu"], "scheduler")
    with pytest.raises(BadConfiguration, match="no filter is called 'gpu'; there are: alive, capacity"):
        Scheduler.from_conf(conf)
    (tmp_path / "gpu_filter.py").write_text(
        "def gpu(host, request):\n    return 'no GPU' if host.name < 'kvm4' else None\n"
    )
    metadata = tmp_path / "gpu_filter-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: gpu-filter\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[hostler.filters]\ngpu = gpu_filter:gpu\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("stevedore._cache._c", Cache(cache_dir=str(tmp_path)))
    monkeypatch.setattr(ExtensionManager, "ENTRY_POINT_CACHE", {})
    found = ask(database, web1, Scheduler.from_conf(conf))
    assert fit(found) == ["kvm4"]
    assert reason(found, "kvm2") == "no GPU"


@pytest.mark.parametrize("weighers_said", [{"memory": "much"}, {"memory": "nan"}, {"nothing": "1.0"}])
def test_a_weigher_of_no_sense_is_refused_when_it_is_read(weighers_said: dict[str, str]) -> None:
    conf = settings.load(["/dev/null"])
    conf.set_override("weighers", weighers_said, "scheduler")
    with pytest.raises(BadConfiguration):
        Scheduler.from_conf(conf)


def test_what_a_newer_worker_tells_is_no_obstacle(database: Database, web1: str) -> None:
    with database.transaction() as session:
        told = HostCapabilities(sources=["bridge:br0"]).to_dict() | {"gpus": 4}
        session.get_one(Host, "kvm2").capabilities = told
    assert fit(ask(database, web1))[0] == "kvm2"


def test_a_request_is_for_what_the_server_takes_unless_told_otherwise(database: Database, web1: str) -> None:
    def made(session: Session, **facts: Any) -> Request:
        return Request.of(session, session.get_one(Instance, web1), **facts)

    with database.reading() as session:
        assert made(session).need == Amounts(1, 1024, 0)
        assert made(session, need=Amounts(2, 2048, 5)).need == Amounts(2, 2048, 5)
        assert dataclasses.asdict(made(session).requirements)["sources"] == []
