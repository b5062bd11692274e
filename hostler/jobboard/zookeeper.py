"""The connection to ZooKeeper."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import AuthFailedError, KazooException, NoAuthError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry
from kazoo.security import make_acl, make_digest_acl
from oslo_config import cfg

from hostler.errors import BadConfiguration, HostlerError, ServerUnreachable

LOG = logging.getLogger(__name__)


def connect(conf: cfg.ConfigOpts) -> KazooClient:
    """Return a client with a session that may touch what hostler has there.

    :class:`~hostler.errors.ServerUnreachable` if none is had in time; :class:`~hostler.errors.BadConfiguration` if
    ZooKeeper does not know us, or the settings do not say who we are.
    """
    hosts = ",".join(conf.zookeeper.hosts)
    logging.getLogger("kazoo").setLevel(logging.WARNING)  # below, it says passwords
    client = KazooClient(
        hosts=hosts,
        timeout=conf.zookeeper.session_timeout,
        connection_retry=KazooRetry(max_tries=-1, delay=0.05, backoff=2, max_delay=2.0),
        command_retry=KazooRetry(max_tries=-1, delay=0.05, backoff=2, max_delay=2.0, deadline=60.0),
        **_tls(conf.zookeeper),
        **_identity(conf.zookeeper),
    )
    with _last_words() as said:
        try:
            client.start(timeout=conf.zookeeper.connect_timeout)
            _look_who_may(client, conf.zookeeper.root, proves=bool(conf.zookeeper.auth))
        except (NoAuthError, AuthFailedError) as error:
            disconnect(client)
            raise stranger(conf, error) from error
        except (KazooTimeoutError, KazooException, OSError) as error:
            disconnect(client)
            reason = (said or [str(error) or type(error).__name__])[-1]
            raise ServerUnreachable(what="ZooKeeper", where=hosts, reason=reason) from error
    _outlive_its_memory(client, 2 * conf.zookeeper.session_timeout)
    return client


def stranger(conf: cfg.ConfigOpts, error: NoAuthError | AuthFailedError) -> HostlerError:
    """Return the refusal where ZooKeeper does not know us, or what lies there is somebody else's."""
    options, where = conf.zookeeper, ",".join(conf.zookeeper.hosts)
    who = f"{options.user!r}, as [zookeeper] user and password say," if options.auth else "who proves nothing"
    what = f"does not let {who} touch {options.root}"
    if isinstance(error, AuthFailedError):
        what = f"does not take user {options.user!r} with that password"
    hint = "hostler config sample; [zookeeper] auth, user and password are the same on every host"
    return BadConfiguration(where=f"ZooKeeper at {where}", problem=what, hint=hint)


def _tls(options: cfg.ConfigOpts.GroupAttr) -> dict[str, Any]:
    """Return kazoo's settings for TLS; chain and name of the server's certificate are always verified."""
    files = {name: options[name] for name in ("ca_file", "tls_cert", "tls_key") if options[name]}
    if not options.tls:
        if files:
            raise _bad(next(iter(files)), "it is of no use while tls is false")
        return {}
    if ("tls_cert" in files) is not ("tls_key" in files):
        raise _bad(
            "tls_key" if "tls_cert" in files else "tls_cert",
            "is not set: certificate and key belong together",
        )
    for name, file in files.items():  # kazoo would ask for ever
        try:
            Path(file).read_bytes()
        except OSError as error:
            raise _bad(name, f"{file}: {error.strerror}") from error
    given = {"ca": files.get("ca_file"), "certfile": files.get("tls_cert"), "keyfile": files.get("tls_key")}
    return {"use_ssl": True, "check_hostname": True, **given}


def _identity(options: cfg.ConfigOpts.GroupAttr) -> dict[str, Any]:
    """Return kazoo's settings that say who we are, and let nobody else touch what we make."""
    if not options.auth:
        return {}
    for name in ("user", "password"):
        if not options[name]:
            raise _bad(name, f"it is not set, and auth = {options.auth} needs it")
    if options.auth == "digest":
        mine = make_digest_acl(options.user, options.password, all=True)
        return {"auth_data": [("digest", f"{options.user}:{options.password}")], "default_acl": [mine]}
    try:
        import puresasl  # noqa: F401 - kazoo needs it, and says so too late
    except ModuleNotFoundError as error:
        hint = "pip install 'hostler[sasl]'"
        raise _bad("auth", "sasl needs what is not installed", hint=hint) from error
    said = {"mechanism": "DIGEST-MD5", "username": options.user, "password": options.password}
    return {"sasl_options": said, "default_acl": [make_acl("sasl", options.user, all=True)]}


def _bad(option: str, problem: str, **hint: str) -> BadConfiguration:
    return BadConfiguration(where=f"[zookeeper] {option}", problem=problem, **hint)


def _look_who_may(client: KazooClient, root: str, *, proves: bool) -> None:
    """See that we may touch what lies there, and say so if others may, too, although we prove who we are."""
    try:
        acls, _ = client.get_acls(root)
    except NoNodeError:
        return
    if proves and any(acl.id.scheme == "world" for acl in acls):
        LOG.warning("anybody may touch %s in ZooKeeper: it was made before [zookeeper] auth was set", root)


@contextmanager
def _last_words() -> Iterator[list[str]]:
    """Collect what kazoo complains of while it connects: what it raises then is always a time-out."""
    said: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "dropped" in record.getMessage():
                said.append(record.getMessage().removeprefix("Connection dropped: "))

    handler = Listening(logging.WARNING)
    logging.getLogger("kazoo").addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger("kazoo").removeHandler(handler)


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
