"""A worker as a process of its own, with steps that wait for a file: ``python -m ... SETTINGS``."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path

from benchmarks.control.noop import drivers
from hostler import conf as settings
from hostler.jobboard import assembly, worker
from hostler.tasks.base import Leg
from tests.functional.jobboard import yard

#: How long a step looks for the file that lets it go on, in seconds.
PATIENCE_S = 30.0


def wait_here(leg: Leg, directory: Path, step: str) -> None:
    """Say that the step has begun; go on when the test allows it, or as long as the leg may."""
    with (directory / f"{step}.began").open("a") as file:
        file.write(f"{os.getpid()}\n")
    for _ in range(int(PATIENCE_S / 0.02)):
        if (directory / f"{step}.go").exists():
            return
        leg.pause(0.02)


def main() -> int:
    """Run the worker that the settings on the command line describe."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    facts = json.loads(sys.argv[1])
    conf = settings.load(["/dev/null"])
    for name, value in facts["settings"].items():
        group, _, option = name.rpartition("__")
        conf.set_override(option, value, group or None)
    directory = Path(facts["directory"])
    assembly.make_drivers = lambda _conf: drivers()
    slow = {step: lambda leg, step=step: wait_here(leg, directory, step) for step in facts["slow"]}
    with yard.told(during=slow):
        return worker.run(conf)


if __name__ == "__main__":
    code = main()
    assert threading.active_count() == 1, [thread.name for thread in threading.enumerate()]
    sys.exit(code)
