"""Budgets of hosts and links, shared by the copies that are under way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.errors import ComputeHostNotFound, InstanceInvalidState
from hostler.records import moves, rates
from hostler.records.database import Database
from hostler.records.models import Receiver
from hostler.records.rates import Copy, shares
from tests.records_made import make_host, make_instance, make_migration

MIB = 1 << 20
HOSTS = ("kvm1", "kvm2", "kvm3")


@pytest.fixture
def database(any_database: Database) -> Database:
    with any_database.transaction() as session:
        for name in HOSTS:
            make_host(session, name)
    return any_database


def copying(database: Database, name: str, *, sending: bool = True, **facts: object) -> str:
    with database.transaction() as session:
        migration = make_migration(session, make_instance(session, name=name), instance_name=name, **facts)
        session.add(Receiver(migration_uuid=migration, host="kvm2", address={}, sending=sending))
    return migration


def share(database: Database, migration: str) -> int | None:
    with database.reading() as session:
        return rates.share(session, migration)


def test_without_a_budget_there_is_no_limit(database: Database) -> None:
    assert share(database, copying(database, "web1")) is None


def test_a_hosts_budget_is_shared_by_weight(database: Database) -> None:
    heavy, light = copying(database, "web1", weight=3), copying(database, "web2", dest_compute="kvm3")
    with database.transaction() as session:
        rates.limit_host(session, "kvm1", 100 * MIB)
    assert (share(database, heavy), share(database, light)) == (75 * MIB, 25 * MIB)


def test_a_destinations_budget_counts_for_what_it_takes(database: Database) -> None:
    first, second = copying(database, "web1"), copying(database, "web2", source_compute="kvm3")
    with database.transaction() as session:
        rates.limit_host(session, "kvm2", 100 * MIB)
    assert (share(database, first), share(database, second)) == (50 * MIB, 50 * MIB)


def test_what_one_may_not_use_the_others_get(database: Database) -> None:
    slow, fast = copying(database, "web1"), copying(database, "web2", dest_compute="kvm3")
    with database.transaction() as session:
        rates.limit_host(session, "kvm1", 100 * MIB)
        rates.limit_link(session, "kvm1", "kvm2", 10 * MIB)
    assert (share(database, slow), share(database, fast)) == (10 * MIB, 90 * MIB)
    with database.transaction() as session:
        rates.limit_link(session, "kvm1", "kvm2", None)
        rates.limit_migration(session, fast, who="ann", rate_bytes_per_s=MIB)
    assert (share(database, slow), share(database, fast)) == (99 * MIB, MIB)


def test_a_copy_that_is_over_paused_or_not_begun_leaves_its_part(database: Database) -> None:
    paused, alone = copying(database, "web1"), copying(database, "web2")
    copying(database, "web3", sending=False)
    with database.transaction() as session:
        rates.limit_host(session, "kvm1", 100 * MIB)
        rates.pause(session, paused, who="ann", reason="office hours")
    assert (share(database, paused), share(database, alone)) == (0, 100 * MIB)
    with database.transaction() as session:
        rates.resume(session, paused, who="bob")
        rates.limit_host(session, "kvm1", None)
    assert (share(database, paused), share(database, alone)) == (None, None)


def test_the_history_says_who_and_why(database: Database) -> None:
    migration = copying(database, "web1")
    with database.transaction() as session:
        rates.limit_migration(session, migration, who="ann", rate_bytes_per_s=MIB, weight=2)
        rates.limit_migration(session, migration, who="ann", rate_bytes_per_s=None)
        rates.pause(session, migration, who="bob", reason="office hours")
        rates.pause(session, migration, who="eve", reason="again")
        rates.resume(session, migration, who="ann")
        rates.resume(session, migration, who="ann")
        events = [(event.kind, event.text) for event in moves.events(session, migration)]
    assert events == [
        ("rate", f"ann: at most {MIB} bytes/s, weight 2"),
        ("rate", "ann: no limit, weight 2"),
        ("paused", "bob: office hours"),
        ("resumed", "ann"),
    ]


def test_what_is_over_is_neither_limited_nor_paused(database: Database) -> None:
    migration = copying(database, "web1", phase="closed", status="confirmed")
    with database.transaction() as session:
        with pytest.raises(InstanceInvalidState, match="has nothing to copy any more: cannot pause it"):
            rates.pause(session, migration, who="ann", reason="late")
        with pytest.raises(InstanceInvalidState) as refused:
            rates.limit_migration(session, migration, who="ann", weight=2)
    assert refused.value.hint == f"hostler migration show {migration}"


def test_a_host_that_is_not_there_is_named(database: Database) -> None:
    with database.transaction() as session:
        with pytest.raises(ComputeHostNotFound, match="kvm9"):
            rates.limit_host(session, "kvm9", 1)
        with pytest.raises(ComputeHostNotFound, match="kvm9"):
            rates.limit_link(session, "kvm1", "kvm9", 1)


HOST = st.sampled_from(HOSTS)
RATE = st.integers(1, 10**12)
COPIES = st.lists(
    st.builds(Copy, st.uuids().map(str), HOST, HOST, st.integers(1, 100), st.none() | RATE), max_size=8
)
LIMITS = st.dictionaries(
    st.tuples(st.sampled_from(("from", "to")), HOST) | st.tuples(st.just("link"), HOST, HOST), RATE
)


@given(COPIES, LIMITS)
def test_no_budget_is_overdrawn_and_none_is_left_where_it_could_be_used(
    copies: list[Copy], budgets: dict[tuple[str, ...], int]
) -> None:
    given_away = shares(copies, budgets)
    full = set()
    for limit, budget in budgets.items():
        under = [given_away[copy.migration] for copy in copies if limit in copy.constraints]
        assert None not in under
        spent = sum(rate or 0 for rate in under)
        assert spent <= budget + len(under)  # each may have the least rate there is, a byte a second
        full |= {limit} if spent >= budget * (1 - 1e-9) - len(under) else set()
    for copy in copies:
        own = given_away[copy.migration]
        if own is None:
            assert copy.rate_bytes_per_s is None
        else:
            held = copy.rate_bytes_per_s is not None and own >= copy.rate_bytes_per_s - 1
            assert held or full & set(copy.constraints), "it could have more"
