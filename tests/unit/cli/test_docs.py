"""What is written about the commands is true of them."""

from __future__ import annotations

import configparser
import fnmatch
import importlib.metadata
import re
import runpy
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostler.cli.app import HostlerApp
from hostler.errors import HostlerError
from hostler.records.database import Database

TOP = Path(__file__).resolve().parents[3]
COMMANDS = {
    entry.name.replace("_", " "): entry for entry in importlib.metadata.entry_points(group="hostler.commands")
}
PAGES = sorted([TOP / "README.rst", *(TOP / "docs").glob("*.rst")])


@pytest.fixture(scope="module")
def render() -> dict[str, Any]:
    return runpy.run_path(str(TOP / "docs" / "render.py"))


def test_every_command_is_in_the_reference() -> None:
    page = (TOP / "docs" / "commands.rst").read_text()
    patterns = re.findall(r"^   :command: (.+)$", page, re.MULTILINE)
    missing = [name for name in COMMANDS if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    assert missing == []


#: In a block, behind whatever is typed before it on the line, or as the term of a list of commands.
LINE = r"^(?: {4}(?:\$ |sudo |.*[;|(] (?:do )?)?hostler (.+)|``hostler ([^`]+)``)$"


def lines_to_type() -> Iterator[tuple[str, str]]:
    """Give each command line of hostler that a page tells to type, without what the shell does with its output."""
    for page in PAGES:
        for found in re.finditer(LINE, page.read_text(), re.MULTILINE):
            yield page.name, re.split(r" +# | [|<>] | </|;|\)", found[1] or found[2])[0].strip()


@pytest.mark.parametrize(("page", "line"), sorted(set(lines_to_type())))
def test_what_stands_in_a_block_can_be_typed_as_it_is(page: str, line: str) -> None:
    app = HostlerApp()
    _, words = app.parser.parse_known_args(shlex.split(line))
    name = next((name for name in COMMANDS if f"{' '.join(words)} ".startswith(f"{name} ")), None)
    assert name is not None, f"{page}: hostler {line}"
    parser = COMMANDS[name].load()(app, None).get_parser(f"hostler {name}")
    parser.parse_args(words[len(name.split()) :])


def typed() -> Iterator[tuple[str, str]]:
    """Give each ``hostler ...`` that a page tells to type."""
    for page in PAGES:
        text = page.read_text().replace("\n    ", "\n  ")
        for found in re.finditer(r"(?:``|^ +)hostler ((?:[a-z]+ ?)+)([^`\n]*)", text, re.MULTILINE):
            yield page.name, f"{found[1]}{found[2]}".split(" > ")[0].strip()


@pytest.mark.parametrize(("page", "words"), sorted(set(typed())))
def test_what_a_page_tells_to_type_is_a_command(page: str, words: str) -> None:
    name = next((name for name in COMMANDS if f"{words} ".startswith(f"{name} ")), None)
    assert name is not None, f"{page}: hostler {words}"
    parser = COMMANDS[name].load()(HostlerApp(), None).get_parser(name)
    options = {option for action in parser._actions for option in action.option_strings}
    assert set(re.findall(r"--[a-z-]+", words)) <= options


def set_in_pages() -> Iterator[tuple[str, str, str, str]]:
    """Give each setting of hostler's own groups that a page shows: page, group, name and value."""
    for page in PAGES:
        for block in re.findall(r"^    \[\w+\]\n(?:(?: {4}.*)?\n)*", page.read_text(), re.MULTILINE):
            shown = configparser.ConfigParser(interpolation=None, default_section="", strict=False)
            shown.read_string(textwrap.dedent(block))
            yield from ((page.name, group, *pair) for group in shown for pair in shown[group].items())


@pytest.mark.parametrize(("page", "group", "name", "value"), sorted(set(set_in_pages())))
def test_a_setting_that_a_page_shows_is_one(page: str, group: str, name: str, value: str) -> None:
    from hostler import conf

    options = {option.name.replace("-", "_"): option for option in conf.GROUPS.get(group, ())}
    if group in conf.GROUPS:
        assert name in options, f"{page}: [{group}] {name}"
        options[name].type(value)


def zoo_cfg(word: str) -> dict[str, str]:
    """Return what the block of the manual that has *word* sets in ``zoo.cfg``."""
    blocks = re.findall(r"(?:^ {4}[\w.]+=.*\n)+", (TOP / "docs" / "servers.rst").read_text(), re.MULTILINE)
    (block,) = [block for block in blocks if word in block]
    return dict(line.strip().split("=", 1) for line in block.splitlines())


def test_zookeeper_grants_the_sessions_that_workers_ask_for() -> None:
    from hostler import conf

    shown = zoo_cfg("server.1")
    asked = next(one.default for one in conf.GROUPS["zookeeper"] if one.name == "session_timeout")
    assert 2 * int(shown["tickTime"]) <= asked * 1000 <= 20 * int(shown["tickTime"])
    hosts = {value for page, _, name, value in set_in_pages() if (page, name) == ("servers.rst", "hosts")}
    names = [shown[f"server.{number}"].split(":")[0] for number in (1, 2, 3)]
    assert hosts == {",".join(f"{name}:{port}" for name in names) for port in (2181, 2281)}
    assert shown["clientPort"] == "2181"


def test_the_zookeeper_with_tls_is_the_one_that_is_tested() -> None:
    from lab import zookeeper

    tested = dict(line.split("=", 1) for line in zookeeper.SECURE.splitlines())
    shown = zoo_cfg("secureClientPort") | zoo_cfg("authProvider")
    assert shown.keys() == tested.keys() - {"secureClientPortAddress"}
    fixed = [name for name in shown if not tested[name].startswith("{")]
    assert [shown[name] for name in fixed] == [tested[name] for name in fixed]
    page = (TOP / "docs" / "servers.rst").read_text()
    assert all(jar.name in page for jar in zookeeper.NETTY)


def test_what_the_manual_asks_of_postgresql_reaches_its_driver() -> None:
    (url,) = {value for _, _, name, value in set_in_pages() if name == "connection" and "sslmode" in value}
    database = Database(url)
    _, asked = database.engine.dialect.create_connect_args(database.engine.url)
    database.close()
    assert (asked["sslmode"], asked["sslrootcert"]) == ("verify-full", "/etc/hostler/db-ca.pem")


def test_the_picture_of_the_readme_is_the_flow_as_it_is(render: dict[str, Any]) -> None:
    committed = (TOP / "docs" / "images" / "cold_migration.svg").read_text()
    assert committed == render["picture"]("cold_migration"), "python docs/render.py renews it"


def test_the_readme_fits_two_screens_and_names_both_commands() -> None:
    lines = (TOP / "README.rst").read_text().splitlines()
    assert len(lines) < 150
    first_screen = "\n".join(lines[:40])
    assert "tools/demo" in first_screen
    assert "tools/test" in first_screen


def test_every_setting_and_every_error_has_its_place(render: dict[str, Any]) -> None:
    from hostler import conf

    settings = "\n".join(render["settings_page"]())
    for options in conf.GROUPS.values():
        assert all(f"``{option.name}``" in settings and option.help in settings for option in options)
    errors = "\n".join(render["errors_page"]())
    for leaf in leaves(HostlerError):
        if leaf.__module__ == "hostler.errors" and not leaf.__subclasses__():
            assert f"``{leaf.__name__}``" in errors


def leaves(branch: type[HostlerError]) -> Iterator[type[HostlerError]]:
    for leaf in branch.__subclasses__():
        yield leaf
        yield from leaves(leaf)
