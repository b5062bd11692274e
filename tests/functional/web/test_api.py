"""The API does what its document says, and what nobody may do changes nothing."""

from __future__ import annotations

import datetime
import re
from typing import Any

import jsonschema
import pytest
import requests
from sqlalchemy import update

from hostler.records.models import Migration
from hostler.web import openapi, tokens
from tests.functional.web.conftest import Served, rename

UNDER = openapi.PREFIX


def ask(
    served: Served, path: str, token: str | None = None, method: str = "GET", **more: Any
) -> requests.Response:
    headers = {"authorization": f"Bearer {served.reader if token is None else token}"}
    return requests.request(method, served.url + path, headers=headers, timeout=30, **more)


def test_every_answer_is_what_the_document_says(served: Served) -> None:
    number = served.world.migrate(served.world.add_server()).uuid
    rename(served.world, number, "<script>alert(1)</script>")
    document = ask(served, f"{UNDER}/openapi.json").json()
    assert document == openapi.document()
    for path, methods in document["paths"].items():
        if "get" not in methods:
            continue
        answer = ask(served, path.replace("{uuid}", number))
        assert answer.status_code == 200, answer.text
        schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), schema | {"components": document["components"]})
    assert ask(served, f"{UNDER}/migrations/{number}").json()["server"] == "<script>alert(1)</script>"


def test_pages_follow_each_other(served: Served) -> None:
    server = served.world.add_server()
    wanted = {served.world.migrate(server).uuid}
    served.world.client.confirm(server, requested_by="tester")
    served.world.run()
    wanted.add(served.world.migrate(server, "kvm1").uuid)
    first = ask(served, f"{UNDER}/migrations?limit=1").json()
    second = ask(served, f"{UNDER}/migrations?limit=1&after={first['following']}").json()
    assert {one["uuid"] for page in (first, second) for one in page["migrations"]} == wanted
    assert second["following"] is None


@pytest.mark.parametrize("token", ["", "wrong", "expired"])
def test_a_bad_token_is_refused(served: Served, token: str) -> None:
    if token == "expired":
        token = tokens.issue(served.file, "late", tokens.OPERATOR, 1)
        assert ask(served, f"{UNDER}/hosts", token).status_code == 200
        yesterday = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)
        lines = served.file.read_text()
        served.file.write_text(re.sub(r"(operator late )\S+", rf"\g<1>{yesterday}", lines))
    answer = ask(served, f"{UNDER}/hosts", token)
    assert (answer.status_code, answer.json()["kind"]) == (401, "Unauthenticated")


def test_a_reader_changes_nothing_and_an_operator_is_in_the_history(served: Served) -> None:
    number = served.world.client.migrate(served.world.add_server(), "kvm2", requested_by="tester")
    cancel = f"{UNDER}/migrations/{number}/cancel"
    assert ask(served, cancel, method="POST", json={"reason": "no"}).status_code == 403
    assert ask(served, cancel, served.operator, "POST", json={}).status_code == 400
    assert ask(served, cancel, served.operator, "POST", data="{").status_code == 400
    assert ask(served, cancel, served.operator, "POST", data="x" * 100_000).status_code == 400
    assert served.world.migration(number).cancel_reason is None
    answer = ask(served, cancel, served.operator, "POST", json={"reason": "not today"})
    assert answer.json() == {"migration": number}
    served.world.run()
    assert served.world.migration(number).outcome == "reverted"
    history = ask(served, f"{UNDER}/migrations/{number}/history").json()["history"]
    assert "a-operator: not today" in [one["text"] for one in history]
    again = ask(served, cancel, served.operator, "POST", json={"reason": "once more"})
    assert (again.status_code, again.json()["hint"]) == (409, f"hostler migration show {number}")


def test_a_cookie_alone_makes_nobody_act(served: Served) -> None:
    number = served.world.client.migrate(served.world.add_server(), "kvm2", requested_by="tester")
    with requests.Session() as browser:
        browser.post(f"{served.url}/login", data={"token": served.operator}, timeout=30)
        assert browser.get(f"{served.url}/", timeout=30).url == f"{served.url}/"
        api = browser.post(
            f"{served.url}{UNDER}/migrations/{number}/cancel", json={"reason": "x"}, timeout=30
        )
        form = browser.post(f"{served.url}/migrations/{number}/cancel", data={"reason": "x"}, timeout=30)
    assert (api.status_code, form.status_code) == (401, 403)
    assert served.world.migration(number).cancel_reason is None


def test_an_error_of_a_megabyte_is_short_and_text(served: Served) -> None:
    number = served.world.migrate(served.world.add_server()).uuid
    with served.world.database.transaction() as session:
        error = "<img src=x onerror=alert(1)>" * 40_000
        changes = {"error": error, "phase": "parked", "outcome": "parked"}
        session.execute(update(Migration).where(Migration.uuid == number).values(**changes))
    with requests.Session() as browser:
        browser.post(f"{served.url}/login", data={"token": served.reader}, timeout=30)
        for path in ("/", f"/migrations/{number}"):
            page = browser.get(served.url + path, timeout=30)
            assert page.status_code == 200
            assert "<img src=x" not in page.text
            assert "&lt;img src=x" in page.text
            assert len(page.text) < 100_000
            assert "unsafe-inline" not in page.headers["content-security-policy"]


def test_every_page_and_answer_needs_a_token(served: Served) -> None:
    for path in ("/", "/hosts", "/migrations/x", "/migrations/x/graph.svg", "/migrations/x/live"):
        answer = requests.get(served.url + path, allow_redirects=False, timeout=30)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), path
