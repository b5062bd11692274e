"""The connection to ZooKeeper."""

from __future__ import annotations

import logging
import threading

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry
from oslo_config import cfg

from hostler.errors import ServerUnreachable


def connect(conf: cfg.ConfigOpts) -> KazooClient:
    """Return a client with a session; :class:`~hostler.errors.ServerUnreachable` if none is had in time."""
    hosts = ",".join(conf.zookeeper.hosts)
    logging.getLogger("kazoo").setLevel(logging.WARNING)
    client = KazooClient(
        hosts=hosts,
        timeout=conf.zookeeper.session_timeout,
        connection_retry=KazooRetry(max_tries=-1, delay=0.05, backoff=2, max_delay=2.0),
        command_retry=KazooRetry(max_tries=-1, delay=0.05, backoff=2, max_delay=2.0, deadline=60.0),
    )
    try:
        client.start(timeout=conf.zookeeper.connect_timeout)
    except (KazooTimeoutError, KazooException, OSError) as error:
        disconnect(client)
        reason = str(error) or type(error).__name__
        raise ServerUnreachable(what="ZooKeeper", where=hosts, reason=reason) from error
    _outlive_its_memory(client, 2 * conf.zookeeper.session_timeout)
    return client


def _outlive_its_memory(client: KazooClient, after_s: float) -> None:
    """Come back to a ZooKeeper that has lost its data.

    It refuses whoever has seen later changes than it has, and kazoo would ask for ever: so after a silence in which
    any session has ended, what was seen is forgotten. Each change says what it expects, and is safe without.
    """
    timers: list[threading.Timer] = []

    def forget() -> None:
        client.last_zxid = 0

    def changed(state: str) -> None:
        while timers:
            timers.pop().cancel()
        if state == KazooState.SUSPENDED:
            timer = threading.Timer(after_s, forget)
            timer.daemon = True
            timer.start()
            timers.append(timer)

    client.add_listener(changed)


def disconnect(client: KazooClient) -> None:
    """End the session and all threads of the client."""
    client.stop()
    client.close()
