"""Several drivers, as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler import conf
from hostler.drivers.notifications.news import from_conf
from hostler.drivers.notifications.webhook import WebhookCourier
from hostler.errors import BadConfiguration


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hostler.conf"
    path.write_text(text)
    return path


def test_the_settings_name_several_drivers(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("0123456789abcdef")
    path = settings(
        tmp_path,
        "[drivers]\nnotifications = log, webhook\n"
        f"[notifications]\nwebhook_url = https://there/\nwebhook_secret_file = {secret}\n",
    )
    news = from_conf(conf.load([str(path)]))
    assert {name: type(courier) for name, courier in news.couriers.items()} == {"webhook": WebhookCourier}
    news.close()


def test_what_is_no_driver_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = settings(tmp_path, "[drivers]\nnotifications = log, pigeon\n")
    known = "there are: fake, log, messagingv2, noop, webhook$"
    with pytest.raises(BadConfiguration, match=f"no driver is called 'pigeon'; {known}"):
        from_conf(conf.load([str(path)]))


def test_the_log_alone_needs_no_postman(tmp_path: Path) -> None:
    assert from_conf(conf.load([str(settings(tmp_path, ""))])).couriers == {}


def test_the_section_of_oslo_messaging_is_heeded(tmp_path: Path) -> None:
    text = "[drivers]\nnotifications = messagingv2\n[notifications]\ntransport_url = rabbit://there/\n"
    more = "[oslo_messaging_rabbit]\namqp_durable_queues = false\n"
    (tmp_path / "more").mkdir()
    plain, told = (
        conf.load([str(settings(tmp_path, text))]),
        conf.load([str(settings(tmp_path / "more", text + more))]),
    )
    for one in (plain, told):
        from_conf(one).close()
    assert plain.oslo_messaging_rabbit.amqp_durable_queues is True
    assert told.oslo_messaging_rabbit.amqp_durable_queues is False
