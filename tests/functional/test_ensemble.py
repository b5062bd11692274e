"""The lab's ensemble of ZooKeepers: what the chaos takes for granted."""

from __future__ import annotations

from pathlib import Path

from kazoo.client import KazooClient

from lab.process import wait_until
from lab.sockets import free_port
from lab.zookeeper import Ensemble


def test_an_ensemble_that_loses_its_leader_elects_another_and_forgets_nothing(tmp_path: Path) -> None:
    ensemble = Ensemble(tmp_path, "127.0.0.1", free_port(), size=3)
    client = KazooClient(hosts=ensemble.hosts)
    try:
        ensemble.start()
        client.start()
        client.create("/kept", b"value")
        first = ensemble.leader
        assert first is not None

        first.kill()
        wait_until(lambda: ensemble.leader not in (None, first), "another leader")

        assert not ensemble.is_on
        assert client.retry(client.get, "/kept")[0] == b"value"
        ensemble.start()
        assert ensemble.is_on
    finally:
        client.stop()
        client.close()
        ensemble.kill()
