"""What a shell makes of a TAB: the real shells are asked."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostler.cli.app import HostlerApp
from hostler.cli.complete import SHELLS, Place, places

#: Each shell with its own completion alone, and with a program that says what it was called with.
STARTS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        'source {script}; hostler() {{ echo "<$*>"; }}',
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        'fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; hostler() {{ echo "<$*>" }}',
    ),
}
TYPED = [
    ("hostler ser\tmig\t web1 --wa\t", "server migrate web1 --wait"),
    ("hostler migration graph web1 --format mer\t", "migration graph web1 --format mermaid"),
    ("hostler complete --sh\tfi\t", "complete --shell fish"),
]


@pytest.fixture(scope="module")
def tree() -> list[Place]:
    return list(places(HostlerApp()))


@pytest.fixture(scope="module")
def script(tree: list[Place], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give a shell's script, in the file that it is found by; skip where there is no such shell."""

    def make(shell: str) -> Path:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        path = tmp_path_factory.mktemp(shell) / "_hostler"
        path.write_text("".join(f"{line}\n" for line in SHELLS[shell](tree)))
        return path

    return make


@contextlib.contextmanager
def terminal(words: list[str]) -> Iterator[int]:
    """Run a shell in a terminal of its own; give the terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "dumb", "INPUTRC": "/dev/null"}
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
    ) as shell:
        os.close(theirs)
        try:
            yield ours
        finally:
            shell.kill()
            os.close(ours)


def called_with(ours: int, typed: str) -> str:
    """Type a line; give the words that the program was called with. The test's time limit ends a wait in vain."""
    os.write(ours, f"{typed}\n".encode())
    shown = ""
    while (said := re.search("<([^$>]+)>", shown)) is None:
        shown += os.read(ours, 4096).decode()
    return said[1].strip()


@pytest.mark.parametrize("shell", STARTS)
def test_a_tab_finishes_commands_options_and_values(shell: str, script: Callable[[str], Path]) -> None:
    path = script(shell)
    words, setup = STARTS[shell]
    with terminal(words) as ours:
        assert called_with(ours, f"{setup.format(script=path, folder=path.parent)}\nhostler ready") == "ready"
        for typed, called in TYPED:
            assert called_with(ours, typed) == called


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("hostler server mi", {"migrate"}),
        ("hostler server migrate --wa", {"--wait"}),
        ("hostler migration graph web1 --format mer", {"mermaid"}),
        ("hostler complete --shell ", {"bash", "fish", "zsh"}),
    ],
)
def test_fish_offers_commands_options_and_values(
    typed: str, offered: set[str], script: Callable[[str], Path]
) -> None:
    words = ["fish", "--no-config", "-c", f"source {script('fish')}; complete -C '{typed}'"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == offered


def test_every_command_is_offered_with_what_it_does(tree: list[Place]) -> None:
    by_path = {place.path: place for place in tree}
    for name in HostlerApp().command_manager.commands:
        folder, _, last = name.rpartition(" ")
        assert by_path[folder].words[last]
        assert "--help" in by_path[name].words
