"""A destination is told who the source is by the source's record, and refuses it before its guest is stopped."""

from __future__ import annotations

from tests.support.world import World


def test_a_source_that_asks_for_certificates_where_there_are_none(world: World) -> None:
    world.add_server("web1")
    world.hosts["kvm1"].sender.shown = "-----BEGIN CERTIFICATE-----"
    world.report("kvm1")
    before = world.look_at("kvm1")
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    while hosts := [host for host in world.hosts if number in world.board.jobs(host)]:
        world.leg(hosts[0], number)
    ended = world.migration(number)
    assert ended.outcome in ("refused", "reverted")
    assert "kvm1 asks for a certificate; set [images] tls on both hosts" in (ended.error or "")
    assert world.look_at("kvm1") == before
    assert world.hosts["kvm2"].receiver.open_migrations() == []
