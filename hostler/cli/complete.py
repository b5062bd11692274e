"""``hostler complete``: what a shell offers for the word under the cursor."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostler.cli.base import Command

if TYPE_CHECKING:
    from hostler.cli.app import HostlerApp


@dataclass(frozen=True)
class Place:
    """What may be typed behind some words of the tree of commands."""

    #: The words, without ``hostler``: "", "server" or "server migrate".
    path: str
    #: Each word that may follow, a command's or an option, with what it does.
    words: dict[str, str]
    #: The options that take a value, with its choices; none where it may be anything.
    values: dict[str, list[str]]


def places(app: HostlerApp) -> Iterator[Place]:
    """Give every place of the tree of commands, the nearest to its root first."""
    parsers = {name: _parser(app, name) for name in app.command_manager.commands}
    folders = {"", *(name.rpartition(" ")[0] for name in parsers)}
    for path in sorted(folders | set(parsers), key=lambda path: (len(path.split()), path)):
        parser = app.parser if path == "" else parsers.get(path)
        options = _options(parser) if parser else []
        words = {word: _first(about) for word, about in _below(path, parsers)}
        words |= {option: _help(action) for action in options for option in action.option_strings}
        values = {
            option: [str(choice) for choice in action.choices or ()]
            for action in options
            for option in action.option_strings
            if action.nargs != 0
        }
        yield Place(path, words, values)


def _parser(app: HostlerApp, name: str) -> argparse.ArgumentParser:
    factory, _, _ = app.command_manager.find_command(name.split())
    parser: argparse.ArgumentParser = factory(app, None).get_parser(f"hostler {name}")
    return parser


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS
    ]


def _below(path: str, parsers: dict[str, argparse.ArgumentParser]) -> Iterator[tuple[str, str]]:
    """Give the words of commands that follow *path*: a command with what it does, a folder with its commands."""
    depth = len(path.split())
    for name in sorted(parsers):
        words = name.split()
        if words[:depth] == path.split() and len(words) > depth:
            leaf = len(words) == depth + 1
            yield (
                words[depth],
                parsers[name].description or "" if leaf else f"commands of hostler {words[depth]}",
            )


def _help(action: argparse.Action) -> str:
    return _first((action.help or "") % {"default": action.default, "prog": "hostler"})


def _first(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def bash(tree: list[Place]) -> Iterator[str]:
    """Give the lines that make bash complete; they need nothing of bash-completion's."""
    yield from (
        "_hostler() {",
        "    local at= word offered=",
        '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
    )
    yield from (
        '        case "$at $word" in',
        f"            {_known(tree)}) at+=${{at:+ }}$word ;;",
        "        esac",
    )
    yield from ("    done", '    case "$at ${COMP_WORDS[COMP_CWORD-1]}" in')
    for place, option, choices in _values(tree):
        yield f"        {shlex.quote(f'{place.path} {option}')}) offered={shlex.quote(' '.join(choices))} ;;"
    yield from ("        *)", '            case "$at" in')
    for place in tree:
        yield f"                {shlex.quote(place.path)}) offered={shlex.quote(' '.join(place.words))} ;;"
    yield from ("            esac", "    esac")
    yield '    COMPREPLY=($(compgen -W "$offered" -- "${COMP_WORDS[COMP_CWORD]}"))'
    yield from ("}", "complete -o default -F _hostler hostler")


def zsh(tree: list[Place]) -> Iterator[str]:
    """Give the lines of the file ``_hostler`` of zsh's *fpath*."""
    yield from ("#compdef hostler", "", "local at= word", "local -a offered")
    yield 'for word in "${(@)words[2,CURRENT-1]}"; do'
    yield from ('    case "$at $word" in', f"        {_known(tree)}) at+=${{at:+ }}$word ;;", "    esac")
    yield from ("done", 'case "$at ${words[CURRENT-1]}" in')
    for place, option, choices in _values(tree):
        offer = f"offered=({shlex.join(choices)})" if choices else "_files; return"
        yield f"    {shlex.quote(f'{place.path} {option}')}) {offer} ;;"
    yield from ("    *)", '        case "$at" in')
    for place in tree:
        described = (f"{word}:{about}" for word, about in place.words.items())
        yield f"            {shlex.quote(place.path)}) offered=({shlex.join(described)}) ;;"
    yield from ("        esac", "esac", "_describe hostler offered || _files")


def fish(tree: list[Place]) -> Iterator[str]:
    """Give the lines that make fish complete."""
    known = shlex.join(place.path for place in tree if place.path)
    yield from (f"set -g __hostler_places {known}", "", "function __hostler_at", "    set -l at")
    yield "    for word in (commandline -opc)[2..]"
    yield '        contains -- "$at $word" " "$__hostler_places; and set at "$at $word"'
    yield from ("    end", '    test "$at" = "$argv"', "end", "", "complete -c hostler -f")
    for place in tree:
        here = shlex.quote(f"__hostler_at '{' ' * bool(place.path)}{place.path}'")
        for word, about in place.words.items():
            yield f"complete -c hostler -n {here} {_fish_word(word, place)} -d {shlex.quote(about)}"


def _fish_word(word: str, place: Place) -> str:
    if not word.startswith("-"):
        return f"-a {word}"
    kind = f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}"
    choices = place.values.get(word)
    if choices is None:
        return kind
    return f"{kind} -x -a {shlex.quote(' '.join(choices))}" if choices else f"{kind} -r -F"


def _known(tree: list[Place]) -> str:
    """Return the pattern of ``"$at $word"`` for every place below the root."""
    return "|".join(
        shlex.quote(f"{'' if ' ' in place.path else ' '}{place.path}") for place in tree if place.path
    )


def _values(tree: list[Place]) -> Iterator[tuple[Place, str, list[str]]]:
    for place in tree:
        for option, choices in place.values.items():
            yield place, option, choices


SHELLS = {"bash": bash, "fish": fish, "zsh": zsh}


class Complete(Command):
    """Print what makes a shell complete the commands and options of hostler."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--shell", choices=sorted(SHELLS), default="bash", help="The shell. Default: bash."
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print it."""
        for line in SHELLS[parsed_args.shell](list(places(self.app))):
            self.app.stdout.write(f"{line}\n")
