"""A real terminal (tmux) of any size, in which the program is typed over a world of fake hosts and real workers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from lab.process import LabError, wait_until
from tests.support.world import World

HOSTLER = "import sys; from hostler.cli.app import main; sys.exit(main())"
PATIENCE_S = 200
_ENDED = "[ended: "


class Terminal:
    """One window of tmux; what is on it is read as text, with its colours, or kept as a picture."""

    def __init__(self, socket: Path, config: Path) -> None:
        self._socket = socket
        self._config = config
        self._columns = 0
        self._windows = 0

    def type(self, *argv: str, columns: int = 100, lines: int = 32, **environment: str) -> None:
        """Type ``hostler`` with *argv* in a new window of that size; the shell's answer is not waited for."""
        self.close()
        # a server that is ending would take the new window with it
        self._windows += 1
        self._columns = columns
        program = shlex.join([sys.executable, "-c", HOSTLER, "--config-file", str(self._config), *argv])
        typed = shlex.join(["hostler", *argv])
        words = f"printf '%s\\n' {shlex.quote(f'$ {typed}')}; {program}; printf '{_ENDED}%s]' $?"
        words += "; tmux wait-for -S ended; exec cat"
        size = ("-x", str(columns), "-y", str(lines))
        # the size is the window's, whatever the tests' own environment says
        shell = [
            "env",
            "--unset=COLUMNS",
            "--unset=LINES",
            *(f"{name}={value}" for name, value in environment.items()),
            "sh",
            "-c",
            words,
        ]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, shlex.join(shell))

    def wait_for(self, what: str | Callable[[str], bool]) -> str:
        """Return the screen once *what* is on it."""
        seen = what if callable(what) else lambda screen: what in screen
        try:
            wait_until(lambda: seen(self.screen()), "it is on the screen", timeout_s=PATIENCE_S)
        except LabError as error:
            raise AssertionError(f"{error}; there is:\n{self.screen()}") from error
        return self.screen()

    def run(self, *argv: str, columns: int = 100, lines: int = 32, **environment: str) -> tuple[int, str]:
        """Type it, and return its exit code and what it left on the screen when it ended."""
        self.type(*argv, columns=columns, lines=lines, **environment)
        self._tmux("wait-for", "ended")
        screen = self.wait_for(lambda screen: re.search(rf"{re.escape(_ENDED)}\d+\]", screen) is not None)
        left, _, code = screen.rpartition(_ENDED)
        return int(code.partition("]")[0]), left

    def screen(self) -> str:
        """Return what is on the screen, a line that was too wide in as many lines as it takes."""
        return self._tmux("capture-pane", "-p").rstrip("\n")

    def keep(self, path: Path) -> None:
        """Write the screen as a picture, as it is now."""
        seen = self._tmux("capture-pane", "-e", "-p").rstrip("\n")
        kept = Text.from_ansi("\n".join(line for line in seen.split("\n") if not line.startswith(_ENDED)))
        with Path(os.devnull).open("w") as nowhere:
            console = Console(record=True, width=self._columns, file=nowhere, force_terminal=True)
            console.print(kept, soft_wrap=True)
        drawn = console.export_svg(title="hostler", unique_id=path.stem)
        # a picture in a page fetches no fonts
        drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
        path.write_text(drawn, encoding="utf-8")

    def close(self) -> None:
        """End what runs in it."""
        self._tmux("kill-server", check=False)

    def _tmux(self, *words: str, check: bool = True) -> str:
        environment = os.environ | {"LC_ALL": "C.UTF-8"}
        command = ["tmux", "-u", "-S", f"{self._socket}{self._windows}", *words]
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        if check and ran.returncode != 0:
            raise AssertionError(f"{shlex.join(command)}: {ran.stderr}")
        return ran.stdout


@pytest.fixture
def terminal(world: World, tmp_path: Path) -> Iterator[Terminal]:
    """A terminal whose program asks the world's servers."""
    config = tmp_path / "hostler.conf"
    zookeeper = world.conf.zookeeper
    config.write_text(
        f"[database]\nconnection = {world.conf.database.connection}\n"
        f"[zookeeper]\nhosts = {','.join(zookeeper.hosts)}\nroot = {zookeeper.root}\n"
    )
    made = Terminal(tmp_path / "tmux", config)
    yield made
    made.close()
