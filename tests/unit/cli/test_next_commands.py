"""What an error tells to type next is something that can be typed."""

from __future__ import annotations

import ast
import importlib.metadata
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler.cli.app import HostlerApp

TOP = Path(__file__).resolve().parents[3]
COMMANDS = {
    entry.name.replace("_", " "): entry for entry in importlib.metadata.entry_points(group="hostler.commands")
}
#: What stands for a value that is known only when the error is raised; a number, since some options want one.
VALUE = "1"


def text_of(node: ast.AST) -> str:
    """Return the text of a literal, with VALUE for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else VALUE


def told() -> Iterator[tuple[str, str]]:
    """Give each literal of the program that is a command of hostler, with where it stands."""
    for module in sorted((TOP / "hostler").rglob("*.py")):
        tree = ast.parse(module.read_text())
        parts = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in parts:
                words = text_of(node)
                if words.startswith("hostler ") and words.split()[1].rstrip(":") in FIRST_WORDS:
                    yield f"{module.relative_to(TOP)}:{node.lineno}", words


FIRST_WORDS = {name.split()[0] for name in COMMANDS} | {"--help"}
TOLD = sorted(set(told()))


def test_the_walk_finds_what_is_told() -> None:
    files = {place.split(":")[0] for place, _ in TOLD}
    assert {"hostler/errors.py", "hostler/jobboard/recovery.py", "hostler/tasks/checks.py"} <= files


@pytest.mark.parametrize(("place", "words"), TOLD)
def test_what_an_error_tells_to_type_is_a_command(place: str, words: str) -> None:
    line = words.split(";")[0].split(" prints ")[0].split(" lists ")[0]
    line = line.replace("{", "").replace("}", "")  # a field of a template stands for itself
    rest = shlex.split(line)[1:]
    if rest == ["--help"]:
        return
    name = next((name for name in COMMANDS if f"{' '.join(rest)} ".startswith(f"{name} ")), None)
    assert name is not None, f"{place}: {words}"
    arguments = rest[len(name.split()) :]
    parser = COMMANDS[name].load()(HostlerApp(), None).get_parser(f"hostler {name}")
    if arguments != ["--help"]:
        parser.parse_args(arguments)
