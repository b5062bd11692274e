"""Whoever asks is told which server does not answer."""

from __future__ import annotations

import pytest
from kazoo.exceptions import ConnectionLoss
from oslo_config import cfg

from hostler import conf as settings
from hostler.errors import ServerUnreachable
from hostler.jobboard import client as asking
from hostler.jobboard.client import Client


class LostAtOnce:
    """A ZooKeeper that took the session and then lost its leader."""

    def __init__(self) -> None:
        self.let_go = False

    def ensure_path(self, _path: str) -> None:
        raise ConnectionLoss


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    settings.register(conf)
    conf([], project="hostler", default_config_files=[])
    conf.set_override("connection", "sqlite://", "database")
    conf.set_override("hosts", ["127.0.0.1:1"], "zookeeper")
    return conf


def test_a_zookeeper_that_goes_away_right_after_the_connection_is_named(
    conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    zookeeper = LostAtOnce()
    monkeypatch.setattr(asking, "connect", lambda _conf: zookeeper)
    monkeypatch.setattr(asking, "disconnect", lambda client: setattr(client, "let_go", True))

    with pytest.raises(ServerUnreachable, match=r"ZooKeeper does not answer at 127\.0\.0\.1:1"):
        Client(conf).migrate("web1", "kvm2", requested_by="tester")

    assert zookeeper.let_go
