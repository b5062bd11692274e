"""Notifications as signed HTTP requests."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shlex
import stat
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests
from oslo_config import cfg

from hostler import __version__
from hostler.drivers.notifications import Message
from hostler.errors import BadConfiguration, NotificationRefused, ServerUnreachable

#: Who may be told without TLS: nobody outside this machine.
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Answers of a client's error that ask for another try: timeout, too early, too many requests.
LATER = (408, 425, 429)
#: A shorter secret could be guessed from one signature.
MIN_SECRET_BYTES = 16


class WebhookCourier:
    """The :class:`~hostler.drivers.notifications.Courier` that POSTs each message as JSON.

    Certificates are verified; no redirect is followed; no proxy and no ``.netrc`` of the environment is used.
    """

    def __init__(
        self, url: str, secret: bytes, *, timeout_s: float = 5.0, ca_file: str | None = None
    ) -> None:
        self.url = url
        #: without the path, which may hold a token
        self.address = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self._secret = secret
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file or True

    def deliver(self, message: Message) -> None:
        """See :class:`~hostler.drivers.notifications.Courier`."""
        body = json.dumps(message.to_dict()).encode()
        try:
            with self._session.post(
                self.url,
                data=body,
                headers=self._headers(message, body),
                timeout=self._timeout_s,
                allow_redirects=False,
                stream=True,  # nobody reads what it says beside its status
            ) as answer:
                status = answer.status_code
        except requests.RequestException as error:
            raise self._unreachable(_cause(error)) from error
        if 200 <= status < 300:
            return
        said = f"it answered {status} {answer.reason or ''}".strip()
        if 400 <= status < 500 and status not in LATER:
            raise NotificationRefused(where=self.address, event=message.event_type, reason=said)
        raise self._unreachable(said)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        return {
            "Content-Type": "application/json",
            "User-Agent": f"hostler/{__version__}",
            "Hostler-Event": message.event_type,
            "Hostler-Message-Id": message.message_id,
            "Hostler-Timestamp": timestamp,
            "Hostler-Signature": f"sha256={signature(self._secret, timestamp, body)}",
        }

    def _unreachable(self, reason: str) -> ServerUnreachable:
        return ServerUnreachable(what="the webhook", where=self.address, reason=reason)


def _cause(error: requests.RequestException) -> str:
    """Return what went wrong; urllib3 says it inside a sentence that shows the whole URL."""
    wrapped = error.args[0] if error.args else error
    return str(getattr(wrapped, "reason", None) or wrapped)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the HMAC-SHA256, hexadecimal, of the timestamp, a full stop and the body."""
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def from_conf(conf: cfg.ConfigOpts) -> WebhookCourier:
    """Make the driver of the settings; what is missing or unsafe is :class:`~hostler.errors.BadConfiguration`."""
    options = conf.notifications
    url = _checked_url(options.webhook_url or "")
    secret = _read_secret(options.webhook_secret_file or "")
    ca_file: str | None = options.webhook_ca_file
    if ca_file and not Path(ca_file).is_file():
        raise _bad("webhook_ca_file", f"there is no file {ca_file}")
    return WebhookCourier(url, secret, timeout_s=options.webhook_timeout, ca_file=ca_file)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _bad("webhook_url", str(error)) from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise _bad("webhook_url", "it is not set, or no https:// address, and webhook needs it")
    if parts.username or parts.password:
        raise _bad("webhook_url", "it holds a user or a password, which logs would show")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise _bad("webhook_url", "http:// is for this machine alone; others are told by https://")
    return url


def _read_secret(name: str) -> bytes:
    """Return what signs: the file's contents without the white space around; it must be its owner's alone."""
    option = "webhook_secret_file"
    if not name:
        raise _bad(option, "it is not set, and webhook needs it")
    try:
        with Path(name).open("rb") as file:
            status = os.fstat(file.fileno())
            secret = file.read(4096).strip()
    except OSError as error:
        raise _bad(option, f"{name}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
        hint = f"chmod 600 {shlex.quote(name)}; root or the worker's user is to own it"
        raise _bad(option, f"{name} can be read by others than its owner", hint=hint)
    if len(secret) < MIN_SECRET_BYTES:
        hint = f"openssl rand -hex 32 | install -m 600 /dev/stdin {shlex.quote(name)}"
        raise _bad(option, f"{name} holds less than {MIN_SECRET_BYTES} bytes", hint=hint)
    return secret


def _bad(option: str, problem: str, **hint: str) -> BadConfiguration:
    return BadConfiguration(where=f"[notifications] {option}", problem=problem, **hint)
