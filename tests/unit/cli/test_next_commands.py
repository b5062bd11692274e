"""What an error tells to type next is something that can be typed, and no refusal has nothing to tell."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import re
import shlex
import shutil
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from taskflow import states
from taskflow.persistence.models import TaskDetail
from taskflow.types.failure import Failure

from hostler.cli.app import HostlerApp
from hostler.cli.base import UsageError
from hostler.errors import (
    HostlerError,
    InstanceIsLocked,
    MigrationPreCheckError,
    NoValidHost,
    Problem,
    Refused,
    hints_of,
    kept_hint,
)
from hostler.jobboard.details import _columns
from tests.unit.cli.cli_world import MIGRATION, Hostler, World

TOP = Path(__file__).resolve().parents[3]
COMMANDS = {
    entry.name.replace("_", " "): entry for entry in importlib.metadata.entry_points(group="hostler.commands")
}
#: What stands for a value that is known only when the error is raised; a number, since some options want one.
VALUE = "1"
#: What the machine of whoever is refused has, though not every machine that runs these tests.
OF_HOSTS = ("openstack", "pip", "sudo", "virsh")
FIRST_WORDS = {name.split()[0] for name in COMMANDS} | {"--help", "--version"}


class Said(NamedTuple):
    """A literal of the program, and where it stands."""

    place: str
    words: str


# -- what the program says --------------------------------------------------------------------------------


def text_of(node: ast.AST) -> str:
    """Return the text of a literal, with VALUE for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else VALUE


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Give each module of the program."""
    for module in sorted((TOP / "hostler").rglob("*.py")):
        yield str(module.relative_to(TOP)), ast.parse(module.read_text())


def told() -> Iterator[Said]:
    """Give each literal of the program that is a command of hostler."""
    for name, tree in modules():
        parts = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in parts:
                words = text_of(node)
                if words.startswith("hostler ") and words.split()[1].rstrip(":;") in FIRST_WORDS:
                    yield Said(f"{name}:{node.lineno}", words)


def hints() -> Iterator[Said]:
    """Give each literal that becomes the hint of one error: given to it, or put down as ``hint`` before."""
    for name, tree in modules():
        for node in ast.walk(tree):
            given = node.value if isinstance(node, ast.keyword) and node.arg == "hint" else None
            if isinstance(node, ast.Assign):
                targets = [each for target in node.targets for each in _each(target)]
                values = _each(node.value)
                named = [value for target, value in zip(targets, values, strict=False) if _is_hint(target)]
                given = named[0] if named else None
            if given is not None:
                yield from (Said(f"{name}:{given.lineno}", words) for words in _literals(given))


def _each(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _is_hint(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "hint"


def _literals(node: ast.expr) -> list[str]:
    """Return the texts that *node* may be; a name is given here, and put down elsewhere."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return [text_of(node)]
    if isinstance(node, ast.IfExp):
        return _literals(node.body) + _literals(node.orelse)
    return []


def raised() -> Iterator[tuple[str, type[HostlerError], set[str]]]:
    """Give each place that makes a refusal: the class, and the arguments that are named there."""
    kinds = {kind.__name__: kind for kind in REFUSALS}
    for name, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            named = {one.arg for one in node.keywords}
            if called in kinds and None not in named:  # **facts may be anything
                yield f"{name}:{node.lineno}", kinds[called], {str(one) for one in named}


def every(kind: type[HostlerError]) -> Iterator[type[HostlerError]]:
    """Give *kind* and all its leaves, wherever the program has them."""
    yield kind
    for leaf in kind.__subclasses__():
        if leaf.__module__.startswith("hostler."):
            yield from every(leaf)


for _name, _tree in modules():  # those with refusals of their own: others may want what is not installed
    if any(
        getattr(base, "id", "") in ("Refused", "UsageError")
        for node in _tree.body
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    ):
        importlib.import_module(_name.removesuffix(".py").replace("/", "."))
REFUSALS = sorted({*every(Refused), *every(UsageError)}, key=lambda kind: kind.__name__)
TOLD, HINTS = sorted(set(told())), sorted(set(hints()))


# -- what can be typed ------------------------------------------------------------------------------------


def must_be_typed(place: str, hint: str) -> None:
    """See that a hint is ``[on HOST: ]COMMAND[; remark]``, and its command one that exists."""
    line = re.sub(r"^on \S+: ", "", re.sub(r"\{\w+\}", VALUE, hint)).split(";")[0]
    for piece in re.split(r" \| | && ", line):
        words = shlex.split(piece)
        words = words[1:] if words[0] == "sudo" else words
        if words[0] == "hostler":
            must_parse(place, words[1:])
        else:
            assert words[0] in OF_HOSTS or shutil.which(words[0]), f"{place}: {hint}"
        if words[0] == "systemctl":
            assert (TOP / "packaging" / "systemd" / f"{words[-1]}.service").exists(), f"{place}: {hint}"


def must_parse(place: str, words: list[str]) -> None:
    """See that hostler's own command line takes *words*."""
    if words in (["--help"], ["--version"]):
        return
    name = next((name for name in COMMANDS if f"{' '.join(words)} ".startswith(f"{name} ")), None)
    assert name is not None, f"{place}: hostler {' '.join(words)}"
    arguments = words[len(name.split()) :]
    parser = COMMANDS[name].load()(HostlerApp(), None).get_parser(f"hostler {name}")
    if arguments != ["--help"]:
        parser.parse_args(arguments)


def test_the_walks_find_what_is_told() -> None:
    files = {said.place.split(":")[0] for said in TOLD}
    assert {"hostler/errors/refused.py", "hostler/jobboard/recovery.py", "hostler/tasks/checks.py"} <= files
    files = {said.place.split(":")[0] for said in HINTS}
    assert {"hostler/conf/__init__.py", "hostler/jobboard/resized.py", "hostler/web/tokens.py"} <= files
    names = {kind.__name__ for kind in REFUSALS}
    assert {"InstanceNotFound", "HostIsAlive", "Unauthenticated", "UsageError"} <= names


@pytest.mark.parametrize(("place", "words"), TOLD)
def test_what_an_error_tells_to_type_is_a_command(place: str, words: str) -> None:
    line = words.split(";")[0].split(" lists ")[0]
    line = line.replace("{", "").replace("}", "")  # a field of a template stands for itself
    must_parse(place, shlex.split(line)[1:])


@pytest.mark.parametrize(("place", "words"), HINTS)
def test_a_hint_of_one_error_is_a_command(place: str, words: str) -> None:
    must_be_typed(place, words)


@pytest.mark.parametrize("kind", [kind for kind in REFUSALS if kind is not Refused])
def test_every_refusal_has_a_next_command(kind: type[HostlerError]) -> None:
    assert "hint_template" in kind.__dict__, "a hint of its own"
    must_be_typed(kind.__name__, kind.hint_template)


@pytest.mark.parametrize(("place", "kind", "named"), sorted(raised(), key=lambda one: one[0]))
def test_whoever_refuses_fills_the_hint_in(place: str, kind: type[HostlerError], named: set[str]) -> None:
    fields = fields_of(kind.hint_template)
    assert "hint" in named or (kind is not Refused and fields <= named), f"{place}: {fields - named}"


def fields_of(template: str) -> set[str]:
    """Return the fields of a template."""
    return {field for _, field, _, _ in string.Formatter().parse(template) if field}


def made(kind: type[HostlerError]) -> HostlerError:
    """Return a refusal as a step raises it."""
    if kind is NoValidHost:
        return NoValidHost(server="web1", reasons={"kvm2": "it is full"})
    if kind is MigrationPreCheckError:
        return MigrationPreCheckError(["it has no bridge br0"], host="kvm2")
    return kind(**dict.fromkeys(fields_of(kind.template) | fields_of(kind.hint_template), "web 1"))


def on_record(error: Exception) -> dict[str, Any]:
    """Return what is kept of a step that failed so: all that another host, or a later version, knows of it."""
    step = TaskDetail("PowerOff", "f1000000-2222-4333-8444-555555555555")
    step.put(states.FAILURE, Failure.from_exception(error))
    return dict(json.loads(json.dumps(_columns(step)["failure"])))


@pytest.mark.parametrize("kind", [kind for kind in REFUSALS if kind is not Refused])
def test_a_refusal_within_a_step_keeps_its_next_command(kind: type[HostlerError]) -> None:
    error = made(kind)
    assert error.hint
    kept = on_record(error)
    assert kept_hint(kept) == error.hint
    assert Failure.from_dict(kept).exception_str == str(error), "TaskFlow of every version reads it"


def test_an_error_of_others_or_of_before_has_no_next_command() -> None:
    assert kept_hint(on_record(OSError(28, "No space left on device"))) == ""
    before = on_record(InstanceIsLocked(server="web1", who="alice", reason=""))
    assert kept_hint(before | {"exc_args": before["exc_args"][:1]}) == ""
    assert kept_hint({}) == ""


@pytest.mark.parametrize(
    ("hint", "following"),
    [
        (
            "on kvm2: ls -ld /x; move it away if nobody needs it",
            "on kvm2: ls -ld /x; move it away if nobody needs it; then: hostler server migrate --to kvm2 web1",
        ),
        ("hostler server migrate --dry-run web1", "hostler server migrate --dry-run web1"),
        (None, "mend that, then: hostler server migrate --to kvm2 web1"),
    ],
)
def test_what_mends_a_refusal_comes_before_the_same_again(
    world: World, hostler: Hostler, hint: str | None, following: str
) -> None:
    world.add_server()
    world.add_migration()
    world.finish("refused", error="kvm2 has a file /x already", hint=hint)
    assert hostler("migration", "watch", "web1").out.endswith(f"  next: {following}\n")
    assert hostler("migration", "show", "web1", "-f", "value", "-c", "hint").out == f"{following}\n"


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in REFUSALS if kind is not Refused])
def test_a_dry_run_tells_the_next_command_of_each_refusal(
    world: World, hostler: Hostler, kind: type[HostlerError], raised: bool
) -> None:
    error = made(kind)
    world.add_server()
    world.add_migration(migration_type="dry-run", flow_name="dry_run")
    if raised:
        world.finish("refused", error=str(error), hint=kept_hint(on_record(error)))
    else:
        problems = [Problem.of(error), "it has no bridge br0"]
        report = {"source": [], "dest": problems, "hints": {"dest": hints_of(problems, "virsh list")}}
        world.finish("success", report=json.loads(json.dumps(report)))
    ran = hostler("server", "migrate", "web1", "--to", "kvm2", "--dry-run")
    assert ran.code == 3
    assert f"{error}\n    try: {error.hint}\n" in ran.out
    assert ran.out.endswith("\n  then: hostler server migrate --to kvm2 --dry-run web1\n")
    plan = json.loads(hostler("server", "migrate", "web1", "--to", "kvm2", "--dry-run", "-f", "json").out)
    assert (plan["problems"][0]["problem"], plan["problems"][0]["next"]) == (str(error), error.hint)
    watched = hostler("migration", "watch", MIGRATION)
    assert watched.code == 3
    assert f"  next: {error.hint}" in watched.out


@pytest.mark.parametrize("name", ["web1", "a b", "it's", "-x", "--help", "$(reboot)"])
def test_a_hint_can_be_pasted_whatever_the_server_is_called(name: str) -> None:
    words = shlex.split(InstanceIsLocked(server=name, who="alice", reason="").hint)
    parser = COMMANDS["server unlock"].load()(HostlerApp(), None).get_parser("hostler server unlock")
    assert words[:3] == ["hostler", "server", "unlock"]
    assert parser.parse_args(words[3:]).server == name
