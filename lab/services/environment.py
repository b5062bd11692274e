"""An interpreter with exactly the packages of a pinned list, made once and kept among what labs share."""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.places import CACHE
from lab.process import run

PINNED = Path(__file__).parent / "pinned"
PYTHON = Path("/usr/bin/python3")
#: Ends a command with whoever has started it: who comes next does the work anew.
TIED = ("setpriv", "--pdeathsig", "KILL")
#: Installing a service takes about a minute where nothing else is at work.
INSTALL_TIMEOUT_S = 1800.0


def environment(name: str) -> Path:
    """Return the folder of the environment that ``pinned/NAME.txt`` describes; made if it is not there yet."""
    pinned = PINNED / f"{name}.txt"
    home = CACHE / "services" / f"{name}-{_digest(pinned)}"
    complete = home / "complete"
    if complete.exists():
        return home
    with _alone(home.with_suffix(".lock")):
        if not complete.exists():
            shutil.rmtree(home, ignore_errors=True)
            run([*TIED, PYTHON, "-m", "venv", home])
            pip = home / "bin/pip"
            run([*TIED, pip, "install", "-q", "--no-deps", "-r", pinned], INSTALL_TIMEOUT_S)
            complete.touch()
    return home


def _digest(pinned: Path) -> str:
    """Name what is installed, and for which interpreter: a newer list or Python is another environment."""
    facts = f"{PYTHON.resolve()} {pinned.read_text()}"
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
