"""Start hostler's worker with a wall clock that can be moved while it runs; run in a host by `lab.pid1`.

The time of day of one host cannot be moved without the machine's; so Python's is (time-machine: `time.time`,
`datetime.now` and their like). What counts seconds, and sleeps, goes on as it did, as after ``date --set``.
"""

import datetime
import sys
import threading
import time
from pathlib import Path

import time_machine

#: How far the clock is off, in seconds; not there: it is right.
OFFSET = Path("/run/hostler-worker.clock")
#: Between two looks at it.
PAUSE_S = 0.1


def offset_s() -> float:
    """By how much the clock shall be off now."""
    try:
        return float(OFFSET.read_text())
    except FileNotFoundError:
        return 0


def follow(clock: time_machine.Traveller, ended: threading.Event) -> None:
    """Move the clock whenever its offset changes, until *ended*."""
    current = None
    while not ended.wait(PAUSE_S):
        if (wanted := offset_s()) != current:
            clock.move_to(time_machine.escape_hatch.time.time() + wanted)
            # It goes on from when it is first looked at.
            time.time()
            current = wanted


def main() -> int:
    from hostler.cli.app import main as hostler

    with time_machine.travel(datetime.datetime.now(datetime.UTC), tick=True) as clock:
        threading.Thread(target=follow, args=[clock, threading.Event()], name="clock", daemon=True).start()
        sys.argv = ["hostler", "worker"]
        return hostler()


if __name__ == "__main__":
    sys.exit(main())
