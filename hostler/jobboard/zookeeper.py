"""The connection to ZooKeeper."""

from __future__ import annotations

import logging

from kazoo.client import KazooClient
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
    return client


def disconnect(client: KazooClient) -> None:
    """End the session and all threads of the client."""
    client.stop()
    client.close()
