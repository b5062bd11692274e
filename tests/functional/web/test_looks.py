"""The pages as they look on a phone: nothing runs out of the window.

With ``HOSTLER_SHOTS=DIRECTORY`` also on a wide screen, light and dark; the pictures, of which the manual shows some,
are kept there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from hostler.errors import MigrationError
from tests.functional.web.conftest import Served
from tests.functional.web.test_browser import log_in, state_is
from tests.support.world import failing, step

SHOTS = os.environ.get("HOSTLER_SHOTS")
WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture
def pages(served: Served) -> dict[str, str]:
    """One migration that is under way, one that is parked, one that was walked back: their pages by name."""
    world, numbers = served.world, {}
    hand_over, copy = step("cold_migration", "HandOver"), step("cold_migration", "CopyImages")
    world.add_server("web1")
    with failing(hand_over, MigrationError("the record of the server has changed"), when="before"):
        numbers["reverted"] = world.migrate("web1").uuid
    world.add_server("web2")
    stuck = failing(copy, MigrationError("the disk does not answer"), when="before", method="revert")
    with failing(hand_over, MigrationError("no"), when="before"), stuck:
        numbers["parked"] = world.client.migrate("web2", "kvm2", requested_by="tester")
        world.run()
    world.add_server("web3")
    numbers["running"] = world.client.migrate("web3", "kvm2", requested_by="tester")
    world.leg("kvm1", numbers["running"])
    world.leg("kvm2", numbers["running"])
    paths = {state: f"/migrations/{number}" for state, number in numbers.items()}
    return {"overview": "/", "hosts": "/hosts", **paths}


@pytest.mark.parametrize("scheme", ["light", "dark"] if SHOTS else ["light"])
@pytest.mark.parametrize(
    ("device", "size"), [("wide", WIDE), ("phone", PHONE)] if SHOTS else [("phone", PHONE)]
)
def test_every_page_fits_its_window(
    browser: Any, served: Served, pages: dict[str, str], scheme: str, device: str, size: tuple[int, int]
) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": device == "phone"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    log_in(browser, served, served.operator)
    for name, path in pages.items():
        browser.get(served.url + path)
        if name in ("reverted", "parked", "running"):
            state_is(browser, name)
        too_wide = "return document.documentElement.scrollWidth - window.innerWidth"
        assert browser.execute_script(too_wide) <= 0, name
        assert browser.find_element(By.TAG_NAME, "main").text
        if SHOTS:
            browser.save_screenshot(str(Path(SHOTS) / f"web-{name}-{device}-{scheme}.png"))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
