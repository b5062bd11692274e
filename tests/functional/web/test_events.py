"""Neutron speaks at the address that Nova has for it, if it has a service's token; nobody else is heard."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import requests

from hostler.records import plugging
from hostler.records.models import JournalEntry
from hostler.web import openapi
from hostler.web.events import BODY, PATH
from tests.functional.web.conftest import Served

PORT = "0f0e0d0c-0000-4000-8000-000000000001"


@pytest.fixture
def waiting(served: Served) -> str:
    """A server whose port is waited for; return its UUID."""
    server = served.world.add_server()
    number = served.world.client.migrate("web1", "kvm2", requested_by="tester")
    with served.world.database.transaction() as session:
        row = JournalEntry(
            migration_uuid=number,
            task=plugging.EVENT,
            key=PORT,
            state="intent",
            data={"mac": "52:54:00:00:00:01"},
        )
        session.add(row)
    return server


def said(served: Served) -> str | None:
    """What is kept of it."""
    with served.world.database.reading() as session:
        (row,) = session.query(JournalEntry).filter_by(task=plugging.EVENT)
        found: str | None = row.data.get("status")
        return found


def post(served: Served, body: Any, token: str | None = None) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"x-auth-token": served.service if token is None else token, "content-type": "application/json"}
    return requests.post(served.url + PATH, data=data, headers=headers, timeout=30)


def event(server: str, **about: Any) -> dict[str, Any]:
    facts = {"name": "network-vif-plugged", "server_uuid": server, "tag": PORT, "status": "completed"}
    return facts | about


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_what_is_waited_for_is_kept_and_answered_as_nova_does(
    served: Served, waiting: str, status: str
) -> None:
    answer = post(served, {"events": [event(waiting, status=status)]})
    assert answer.status_code == 200
    assert answer.json() == {"events": [event(waiting, status="completed", code=200)]}
    assert said(served) == status


def test_without_a_status_it_is_completed_and_a_uuid_may_be_written_otherwise(
    served: Served, waiting: str
) -> None:
    one = {"name": "network-vif-plugged", "server_uuid": waiting.upper().replace("-", ""), "tag": PORT}
    assert post(served, {"events": [one]}).status_code == 200
    assert said(served) == "completed"


def test_of_servers_that_nobody_knows_that_is_said(served: Served, waiting: str) -> None:
    stranger = str(uuid.uuid4())
    partly = post(
        served, {"events": [event(stranger), event(waiting), {"name": "x", "server_uuid": waiting}]}
    )
    assert partly.status_code == 207
    assert [(one["code"], one["status"]) for one in partly.json()["events"]] == [
        (404, "failed"),
        (200, "completed"),
        (200, "completed"),
    ]
    assert said(served) == "completed"
    none = post(served, {"events": [event(stranger)]})
    assert (none.status_code, none.json()["error"]["code"]) == (404, 404)


def test_other_events_are_taken_and_change_nothing(served: Served, waiting: str) -> None:
    others: list[dict[str, Any]] = [
        {"name": name} for name in ("network-changed", "network-vif-unplugged", "network-vif-deleted")
    ]
    for about in [*others, {"status": "in-progress"}, {"tag": None}, {"tag": PORT.upper()}]:
        assert post(served, {"events": [event(waiting, **about)]}).status_code == 200
    assert said(served) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"events": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        [],
        "events",
        {},
        {"events": {}},
        {"events": []},
        {"events": [1]},
        {"events": [None]},
    ],
    ids=lambda body: repr(body)[:20],
)
def test_what_is_no_request_is_refused(served: Served, waiting: str, body: Any) -> None:
    answer = post(served, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)
    assert said(served) is None


@pytest.mark.parametrize(
    "about",
    [
        {"name": None},
        {"name": ""},
        {"name": ["network-vif-plugged"]},
        {"name": "x" * 256},
        {"tag": 7},
        {"tag": "a\0b"},
        {"tag": "\ud800"},
        {"tag": "x" * 256},
        {"status": "done"},
        {"status": {}},
        {"status": None},
        {"server_uuid": "web1"},
        {"server_uuid": 7},
        {"server_uuid": None},
        {"server_uuid": "' OR 1=1 --"},
    ],
    ids=repr,
)
def test_one_event_that_is_none_refuses_them_all(served: Served, waiting: str, about: dict[str, Any]) -> None:
    answer = post(served, {"events": [event(waiting), event(waiting, **about)]})
    assert answer.status_code == 400, answer.text
    assert said(served) is None


def test_a_megabyte_is_refused(served: Served, waiting: str) -> None:
    answer = post(served, {"events": [event(waiting, tag="x" * (1 << 20))]})
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        400,
        f"a request has {BODY} bytes at most",
    )
    assert said(served) is None


@pytest.mark.parametrize(("token", "status"), [("", 401), ("wrong", 401), ("reader", 403), ("operator", 403)])
def test_no_other_token_tells_anything(served: Served, waiting: str, token: str, status: int) -> None:
    token = getattr(served, token, token)
    assert post(served, {"events": [event(waiting)]}, token).status_code == status
    assert post(served, b"x" * (2 << 20), token).status_code == status
    assert said(served) is None


def test_a_services_token_sees_nothing(served: Served, waiting: str) -> None:
    headers = {"authorization": f"Bearer {served.service}"}
    for path in ("/", "/hosts", f"{openapi.PREFIX}/hosts", f"{openapi.PREFIX}/openapi.json"):
        assert requests.get(served.url + path, headers=headers, timeout=30).status_code == 403
    login = requests.post(f"{served.url}/login", data={"token": served.service}, timeout=30)
    assert login.status_code == 401
