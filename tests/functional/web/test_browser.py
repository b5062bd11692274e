"""What an operator sees in a browser: a move from start to end, a failure walked back, a parked one resolved."""

from __future__ import annotations

from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from hostler.errors import MigrationError
from hostler.jobboard.leg import End
from tests.functional.web.conftest import Served, rename
from tests.support.world import failing, step

PATIENCE_S = 30


def log_in(browser: Any, served: Served, token: str) -> None:
    browser.delete_all_cookies()
    browser.get(f"{served.url}/login")
    browser.find_element(By.ID, "token").send_keys(token)
    browser.find_element(By.CSS_SELECTOR, ".login button").click()
    wait(browser, lambda _: browser.find_elements(By.LINK_TEXT, "Hosts"))


def wait(browser: Any, what: Any) -> Any:
    return WebDriverWait(browser, PATIENCE_S).until(what)


def state_is(browser: Any, state: str) -> None:
    live = f'#live[data-state="{state}"]'
    wait(browser, lambda _: browser.find_elements(By.CSS_SELECTOR, live))


def history(browser: Any) -> str:
    return str(browser.find_element(By.ID, "history").text)


def steps(browser: Any, state: str) -> int:
    return len(browser.find_elements(By.CSS_SELECTOR, f".t-{state}"))


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_move_is_watched_from_start_to_end(browser: Any, served: Served) -> None:
    name = "<script>document.title='taken'</script>"
    number = served.world.client.migrate(served.world.add_server(), "kvm2", requested_by="tester")
    rename(served.world, number, name)
    log_in(browser, served, served.reader)
    browser.find_element(By.PARTIAL_LINK_TEXT, name).click()
    wait(browser, lambda _: steps(browser, "pending") > 0)
    assert steps(browser, "done") == 0
    assert served.world.leg("kvm1", number) is End.HANDED_OVER
    wait(browser, lambda _: steps(browser, "done") > 0)
    served.world.run()
    state_is(browser, "success")
    assert steps(browser, "pending") == 0
    assert "done: " in browser.find_element(By.ID, "live").text
    wait(browser, lambda _: "cold_migration: success" in history(browser))  # nobody has loaded it again
    assert "HandOver done" in history(browser)
    drawn = (
        "return document.querySelector('#graph').complete && document.querySelector('#graph').naturalWidth"
    )
    assert wait(browser, lambda _: browser.execute_script(drawn))
    assert browser.title.startswith(name)
    assert not browser.find_elements(By.CSS_SELECTOR, ".verb")  # a reader's page offers nothing
    assert complaints(browser) == []


def test_a_failure_is_walked_back_under_ones_eyes(browser: Any, served: Served) -> None:
    world = served.world
    number = world.client.migrate(world.add_server(), "kvm2", requested_by="tester")
    log_in(browser, served, served.reader)
    browser.get(f"{served.url}/migrations/{number}")
    with failing(step("cold_migration", "HandOver"), MigrationError("no"), when="before"):
        world.run()
    state_is(browser, "reverted")
    assert steps(browser, "undone") > 0
    assert "web1 is back on kvm1" in browser.find_element(By.ID, "live").text
    wait(browser, lambda _: "InspectInstance undone" in history(browser))
    browser.get("about:blank")  # it leaves, and returns
    browser.back()
    state_is(browser, "reverted")
    assert complaints(browser) == []


def test_a_parked_one_is_resolved(browser: Any, served: Served) -> None:
    world = served.world
    number = world.client.migrate(world.add_server(), "kvm2", requested_by="tester")
    hand_over, define = step("cold_migration", "HandOver"), step("cold_migration", "CopyImages")
    stuck = failing(define, MigrationError("neither"), when="before", method="revert")
    with failing(hand_over, MigrationError("no"), when="before"), stuck:
        world.run()
    assert world.migration(number).outcome == "parked"
    log_in(browser, served, served.operator)
    section = browser.find_element(By.CSS_SELECTOR, ".parked")
    assert f"hostler migration retry {number}" in section.text
    section.find_element(By.PARTIAL_LINK_TEXT, "web1").click()
    retry = browser.find_element(By.CSS_SELECTOR, '[data-verb="retry"]')
    retry.find_element(By.NAME, "reason").send_keys("mended")
    retry.find_element(By.TAG_NAME, "button").click()
    wait(browser, lambda _: "retry by a-operator: mended" in browser.find_element(By.TAG_NAME, "main").text)
    world.run()
    state_is(browser, "reverted")
    assert complaints(browser) == []
