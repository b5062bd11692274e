"""A guest waits, made and not running, until Neutron says that its ports are plugged in; else all is as it was."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable

import pytest
from sqlalchemy import select

from hostler.drivers.ports.neutron_fake import FakeNetworkService
from hostler.errors import CloudServiceFailed, ServerUnreachable, Stopping
from hostler.objects import PowerState
from hostler.records.models import Event, JournalEntry
from hostler.records.plugging import COMPLETED, EVENT, FAILED, ServerEvent
from hostler.tasks import plugging as waiting
from hostler.web.office import Office
from tests.functional.flows.test_neutron_ports import give_ports, port_of
from tests.support.world import World, failing, step

#: Longer than any test: whoever waits for it has missed what was said.
LONG_S, SHORT_S = 60.0, 0.1


@dataclasses.dataclass
class Cloud:
    """Two hosts, a server, and Neutron, which can say things."""

    world: World
    server: str
    service: FakeNetworkService
    monkeypatch: pytest.MonkeyPatch

    def says(self, status: str = COMPLETED, **about: str) -> None:
        """Say of the server's port that it was plugged in, or not."""
        facts = {"name": EVENT, "server": self.server, "tag": port_of(self.service).id, "status": status}
        Office(self.world.client).tell_plugged([ServerEvent(**(facts | about))])

    def when_made(self, act: Callable[[], object], *, before: bool = False) -> None:
        """Let *act* happen once the guest is there, or just before."""
        hypervisor = self.world.hosts["kvm2"].hypervisor
        real = hypervisor.create_paused

        def create_paused(xml: str) -> None:
            if before:
                act()
            real(xml)
            if not before:
                act()

        self.monkeypatch.setattr(hypervisor, "create_paused", create_paused)

    def patience(self, seconds: float, *, fatal: bool = True) -> None:
        self.world.timeouts = dataclasses.replace(
            self.world.timeouts, vif_plugging_s=seconds, vif_plugging_is_fatal=fatal
        )

    @property
    def waited_for(self) -> list[str]:
        with self.world.database.reading() as session:
            return list(session.scalars(select(JournalEntry.key).where(JournalEntry.task == EVENT)))

    @property
    def warnings(self) -> list[str]:
        with self.world.database.reading() as session:
            return list(session.scalars(select(Event.text).where(Event.kind == "not-plugged")))

    @property
    def power_state(self) -> PowerState:
        return self.world.hosts["kvm2"].hypervisor.power_state(self.server)


@pytest.fixture
def cloud(world: World, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    server, service = give_ports(world, "kvm2")
    monkeypatch.setattr(waiting, "PAUSE_S", 0.01)
    made = Cloud(world, server, service, monkeypatch)
    made.patience(LONG_S)
    return made


@pytest.mark.parametrize("before", [False, True], ids=["behind", "before"])
def test_what_is_said_when_the_guest_is_made_lets_it_run(cloud: Cloud, before: bool) -> None:
    states = []

    def say() -> None:
        states.append(cloud.power_state)
        cloud.says()

    cloud.when_made(say, before=before)
    assert cloud.world.migrate("web1").outcome == "success"
    assert states == [PowerState.SHUTDOWN if before else PowerState.PAUSED]
    assert (cloud.waited_for, cloud.warnings) == ([], [])


def test_a_port_that_failed_walks_the_migration_back_at_once(cloud: Cloud) -> None:
    before = cloud.world.look(), port_of(cloud.service)
    cloud.when_made(lambda: cloud.says(FAILED))
    migration = cloud.world.migrate("web1")
    assert migration.outcome == "reverted"
    assert migration.error == "port 52:54:00:00:00:01 was not plugged in on kvm2: it failed"
    assert str(migration.hint).startswith(f"openstack port show {port_of(cloud.service).id}")
    assert (cloud.world.look(), port_of(cloud.service)) == before


def test_silence_walks_the_migration_back(cloud: Cloud) -> None:
    before = cloud.world.look(), port_of(cloud.service)
    cloud.patience(SHORT_S)
    migration = cloud.world.migrate("web1")
    assert migration.outcome == "reverted"
    assert str(migration.error).endswith("kvm2: nobody has said so within 0.1 s")
    assert (cloud.world.look(), port_of(cloud.service)) == before


@pytest.mark.parametrize("status", [FAILED, None])
def test_where_that_is_not_fatal_the_history_says_so_and_the_guest_runs(
    cloud: Cloud, status: str | None
) -> None:
    cloud.patience(SHORT_S, fatal=False)
    if status is not None:
        cloud.when_made(lambda: cloud.says(status))
    assert cloud.world.migrate("web1").outcome == "success"
    assert cloud.power_state is PowerState.RUNNING
    (warning,) = cloud.warnings
    assert warning.startswith("port 52:54:00:00:00:01 was not plugged in on kvm2: ")
    assert cloud.waited_for == []


def test_what_was_said_to_nobody_is_seen_in_neutron_itself(cloud: Cloud) -> None:
    cloud.patience(SHORT_S)
    cloud.when_made(lambda: cloud.service.plug(port_of(cloud.service).id))
    assert cloud.world.migrate("web1").outcome == "success"
    assert cloud.warnings == []


def test_a_neutron_that_is_away_then_is_silence(cloud: Cloud) -> None:
    cloud.patience(SHORT_S, fatal=False)
    away = ServerUnreachable(what="Neutron", where="10.0.0.9", reason="no route")
    cloud.when_made(lambda: cloud.service.fail_next("ports_of", away))
    real = cloud.world.hosts["kvm2"].drivers.ports.announced
    with pytest.raises(CloudServiceFailed):
        cloud.service.fail_next("ports_of", away)
        real(cloud.server, cloud.world.hosts["kvm1"].hypervisor.describe(cloud.server).ports)
    assert cloud.world.migrate("web1").outcome == "success"
    assert len(cloud.warnings) == 1


def test_a_port_that_is_up_is_not_waited_for(cloud: Cloud) -> None:
    cloud.service.plug(port_of(cloud.service).id)
    assert cloud.world.migrate("web1").outcome == "success"


def test_nothing_is_waited_for_unless_the_settings_say_so(cloud: Cloud) -> None:
    cloud.patience(0)
    assert cloud.world.migrate("web1").outcome == "success"
    assert cloud.warnings == []


@pytest.mark.parametrize(
    "about",
    [
        {"server": str(uuid.uuid4())},
        {"tag": str(uuid.uuid4())},
        {"name": "network-vif-unplugged"},
        {"status": "in-progress"},
    ],
)
def test_what_is_said_of_something_else_is_not_heeded(cloud: Cloud, about: dict[str, str]) -> None:
    cloud.patience(SHORT_S)
    cloud.when_made(lambda: cloud.says(**about))
    assert cloud.world.migrate("web1").outcome == "reverted"


def test_what_nobody_waits_for_is_not_kept(cloud: Cloud) -> None:
    cloud.says()
    number = cloud.world.client.migrate("web1", "kvm2", requested_by="tester")
    cloud.says()  # of the source, before the guest was stopped
    assert cloud.waited_for == []
    cloud.patience(SHORT_S)
    cloud.world.run()
    assert cloud.world.migration(number).outcome == "reverted"


@pytest.mark.parametrize("said", ["before it dies", "while it is dead"])
def test_a_worker_that_dies_while_it_waits_is_carried_on(cloud: Cloud, said: str) -> None:
    number = cloud.world.client.migrate("web1", "kvm2", requested_by="tester")
    if said == "before it dies":
        cloud.when_made(cloud.says)
    with cloud.monkeypatch.context() as patch:
        patch.setattr(waiting, "wait", _dies)
        with pytest.raises(Stopping):
            cloud.world.run()
    assert cloud.power_state is PowerState.PAUSED
    if said == "while it is dead":
        cloud.says()
    cloud.world.run()
    assert (cloud.world.migration(number).outcome, cloud.waited_for) == ("success", [])


def test_a_worker_that_dies_before_the_guest_is_there_is_carried_on(cloud: Cloud) -> None:
    number = cloud.world.client.migrate("web1", "kvm2", requested_by="tester")
    with cloud.monkeypatch.context() as patch:
        patch.setattr(cloud.world.hosts["kvm2"].hypervisor, "create_paused", _dies)
        with pytest.raises(Stopping):
            cloud.world.run()
    assert cloud.waited_for == [port_of(cloud.service).id]
    cloud.when_made(cloud.says)
    cloud.world.run()
    assert (cloud.world.migration(number).outcome, cloud.waited_for) == ("success", [])


def test_a_guest_that_is_gone_with_its_worker_is_waited_for_anew(cloud: Cloud) -> None:
    number = cloud.world.client.migrate("web1", "kvm2", requested_by="tester")
    with cloud.monkeypatch.context() as patch:
        patch.setattr(waiting, "wait", _dies)
        with pytest.raises(Stopping):
            cloud.world.run()
    cloud.says()
    cloud.world.hosts["kvm2"].hypervisor.destroy(cloud.server)
    cloud.patience(SHORT_S)
    cloud.world.run()  # what was said was said of another plug
    assert cloud.world.migration(number).outcome == "reverted"


def test_a_wish_to_cancel_ends_the_wait(cloud: Cloud) -> None:
    before = cloud.world.look(), port_of(cloud.service)
    number = cloud.world.client.migrate("web1", "kvm2", requested_by="tester")

    def cancel() -> None:
        cloud.world.client.cancel(number, requested_by="alice", reason="changed my mind")
        cloud.world.tether.cancel()

    cloud.when_made(cancel)
    cloud.world.run()
    assert cloud.world.migration(number).status == "cancelled"
    assert (cloud.world.look(), port_of(cloud.service)) == before


def test_a_later_failure_and_a_way_back_leave_nothing_that_is_waited_for(cloud: Cloud) -> None:
    before = cloud.world.look(), port_of(cloud.service)
    cloud.when_made(cloud.says)
    with failing(step("cold_migration", "FinishMigration"), CloudServiceFailed("on purpose"), when="after"):
        assert cloud.world.migrate("web1").outcome == "reverted"
    assert (cloud.world.look(), port_of(cloud.service)) == before
    assert cloud.world.migrate("web1").outcome == "success"
    cloud.world.client.revert_resize("web1", requested_by="tester", reason="slow", drop_writes=True)
    cloud.world.run()
    assert (cloud.waited_for, port_of(cloud.service)) == ([], before[1])


def test_the_first_word_stands(cloud: Cloud) -> None:
    cloud.patience(LONG_S, fatal=False)

    def say() -> None:
        cloud.says(FAILED)
        cloud.says(COMPLETED)

    cloud.when_made(say)
    assert cloud.world.migrate("web1").outcome == "success"
    assert len(cloud.warnings) == 1


def _dies(*_: object) -> None:
    raise Stopping("the worker is stopped")
