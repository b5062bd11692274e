"""Payloads: plain, and without secrets."""

from __future__ import annotations

import datetime
import json

from hostler.drivers.notifications.plain import sanitised
from hostler.objects import PowerState, ReceiverAddress


def test_no_secret_gets_out() -> None:
    address = ReceiverAddress(host="10.0.0.2", port=20900, username="m", key="c0ffee")
    told = json.dumps(
        sanitised(
            {
                "receiver": address,
                "all": [{"password": "c0ffee"}, {"deep": {"auth_token": "c0ffee", "psk": "c0ffee"}}],
                "xml": "<graphics passwd='c0ffee'/>",
                "said": 'could not log in with {"password": "c0ffee"}',
            }
        )
    )
    assert "c0ffee" not in told
    assert "10.0.0.2" in told


def test_what_is_no_json_becomes_some() -> None:
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    payload = {
        "state": PowerState.RUNNING,
        "at": when,
        "hosts": ("a", "b"),
        "error": ValueError("no"),
        1: None,
    }
    assert sanitised(payload) == {
        "state": "running",
        "at": "2026-01-02T00:00:00+00:00",
        "hosts": ["a", "b"],
        "error": "no",
        "1": None,
    }
