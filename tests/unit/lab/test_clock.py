"""A worker's clock that is moved while it runs."""

from __future__ import annotations

import datetime
import threading
import time
from pathlib import Path

import pytest
import time_machine

from lab import clock
from lab.process import wait_until


def test_the_wall_clock_jumps_there_and_back_and_what_counts_seconds_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "OFFSET", tmp_path / "offset")
    began = time.monotonic()

    def is_off_by(seconds: float) -> bool:
        return abs(time.time() - time_machine.escape_hatch.time.time() - seconds) < 1

    with time_machine.travel(datetime.datetime.now(datetime.UTC), tick=True) as travelling:
        threading.Thread(
            target=clock.follow, args=[travelling, ended := threading.Event()], daemon=True
        ).start()
        clock.OFFSET.write_text("7200")
        wait_until(lambda: is_off_by(7200), "the jump")
        clock.OFFSET.unlink()
        wait_until(lambda: is_off_by(0), "the jump back")
        ended.set()

    assert time.monotonic() - began < 1000
