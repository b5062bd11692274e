"""The webhook: signed, verified, and tried again where that may help."""

from __future__ import annotations

import http.server
import json
import runpy
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hostler import conf
from hostler.drivers.notifications import Courier
from hostler.drivers.notifications.webhook import WebhookCourier, from_conf
from hostler.errors import BadConfiguration, NotificationRefused, ServerUnreachable
from lab.sockets import free_port
from tests.unit.drivers.notifications.messages import message

SECRET = b"0123456789abcdef0123456789abcdef"


class Listener(http.server.ThreadingHTTPServer):
    """A server that keeps what it is told and answers what the test says."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = 204
        self.location = ""
        self.slow = threading.Event()
        self.slow.set()
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        """Where it is told."""
        return f"http://127.0.0.1:{self.server_port}/hook?token=c0ffee"

    def handle_error(self, *_: Any) -> None:
        """A client that does not trust it is no error of this test."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Listener

    def do_POST(self) -> None:
        """Keep it, and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.server.slow.wait(10)
        self.send_response(self.server.answer)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def listening(context: ssl.SSLContext | None = None) -> Iterator[Listener]:
    server = Listener(context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.slow.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as server:
        yield server


@pytest.fixture
def courier(listener: Listener) -> Iterator[Courier]:
    made = WebhookCourier(listener.url, SECRET, timeout_s=5)
    yield made
    made.close()


def test_a_listener_can_prove_what_it_was_told(listener: Listener, courier: Courier) -> None:
    told = message("compute.instance.resize.start", host="kvm1", display_name="wéb1")
    courier.deliver(told)
    ((path, headers, body),) = listener.got
    assert path == "/hook?token=c0ffee"
    assert json.loads(body) == told.to_dict()
    assert headers["Content-Type"] == "application/json"
    assert headers["Hostler-Event"] == "compute.instance.resize.start"
    assert headers["Hostler-Message-Id"] == told.message_id
    verify = runpy.run_path(str(Path(__file__).parents[4] / "docs" / "verify_webhook.py"))["is_genuine"]
    assert verify(SECRET, headers, body)
    assert not verify(SECRET, headers, body + b" ")
    assert not verify(SECRET[::-1], headers, body)
    assert not verify(SECRET, headers | {"Hostler-Timestamp": "1700000000"}, body)


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429, 301, 307])
def test_what_may_help_later_is_asked_for_again(listener: Listener, courier: Courier, status: int) -> None:
    listener.answer = status
    with pytest.raises(ServerUnreachable, match=f"it answered {status}") as error:
        courier.deliver(message("a"))
    assert "c0ffee" not in str(error.value)
    listener.answer = 200
    courier.deliver(message("a"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_a_listener_refuses_is_not_asked_for_again(
    listener: Listener, courier: Courier, status: int
) -> None:
    listener.answer = status
    with pytest.raises(NotificationRefused, match=f"does not take a: it answered {status}"):
        courier.deliver(message("a"))


def test_a_redirect_leads_nobody_to_another_host(listener: Listener, courier: Courier) -> None:
    with listening() as other:
        listener.answer, listener.location = 307, other.url
        with pytest.raises(ServerUnreachable, match="it answered 307"):
            courier.deliver(message("a"))
        assert other.got == []


def test_a_listener_that_does_not_answer_is_given_up_in_time(listener: Listener) -> None:
    listener.slow.clear()
    courier = WebhookCourier(listener.url, SECRET, timeout_s=0.2)
    with pytest.raises(ServerUnreachable, match="timed out"):
        courier.deliver(message("a"))
    courier.close()


def test_nobody_listens() -> None:
    courier = WebhookCourier(f"http://127.0.0.1:{free_port()}/c0ffee", SECRET)
    with pytest.raises(ServerUnreachable, match="Connection refused") as error:
        courier.deliver(message("a"))
    assert "c0ffee" not in str(error.value)
    courier.close()


def test_no_password_of_the_environment_is_sent(
    listener: Listener, courier: Courier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login root password c0ffee\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    courier.deliver(message("a"))
    assert "Authorization" not in listener.got[0][1]


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run(
        [*request, *names, "-out", str(certificate), "-keyout", str(key)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with listening(context) as server:
        url = server.url.replace("http", "https")
        strict = WebhookCourier(url, SECRET)
        with pytest.raises(ServerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            strict.deliver(message("a"))
        trusting = WebhookCourier(url, SECRET, ca_file=str(certificate))
        trusting.deliver(message("b"))
        assert [headers["Hostler-Event"] for _, headers, _ in server.got] == ["b"]
        strict.close()
        trusting.close()


# -- its settings -----------------------------------------------------------------------------------------


def made(tmp_path: Path, **options: Any) -> WebhookCourier:
    secret = tmp_path / "secret"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_bytes(SECRET + b"\n")
    settings = conf.load(["/dev/null"])
    given = {"webhook_url": "https://listener.example/hook", "webhook_secret_file": str(secret)} | options
    for name, value in given.items():
        settings.set_override(name, value, "notifications")
    return from_conf(settings)


def test_the_line_s_end_in_the_file_is_no_part_of_the_secret(tmp_path: Path) -> None:
    assert made(tmp_path)._secret == SECRET


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"webhook_url": None}, "webhook_url: it is not set"),
        ({"webhook_url": "ftp://there/"}, "webhook_url: it is not set, or no https:// address"),
        ({"webhook_url": "https://"}, "webhook_url: it is not set, or no https:// address"),
        ({"webhook_url": "https://there:port/"}, "webhook_url: Port could not be cast"),
        ({"webhook_url": "https://me:c0ffee@there/"}, "webhook_url: it holds a user or a password"),
        ({"webhook_url": "http://there/"}, "webhook_url: http:// is for this machine alone"),
        ({"webhook_secret_file": None}, "webhook_secret_file: it is not set"),
        ({"webhook_secret_file": "/no/such/file"}, "No such file or directory"),
        ({"webhook_secret_file": "/dev/null"}, "can be read by others"),
        ({"webhook_ca_file": "/no/such/file"}, "webhook_ca_file: there is no file /no/such/file"),
    ],
)
def test_half_or_unsafe_settings_are_refused(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadConfiguration, match=problem) as refused:
        made(tmp_path, **options)
    assert "c0ffee" not in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_secret_that_others_can_read_is_none(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(mode)
    with pytest.raises(BadConfiguration, match="can be read by others than its owner"):
        made(tmp_path)


def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_bytes(b"hunter2\n")
    with pytest.raises(BadConfiguration, match="holds less than 16 bytes") as refused:
        made(tmp_path)
    assert "hunter2" not in str(refused.value)
