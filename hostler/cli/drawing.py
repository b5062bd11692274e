"""Printing a drawing, or showing it in whatever the operator's desktop opens it with."""

from __future__ import annotations

import argparse
import tempfile
import webbrowser
from pathlib import Path

from hostler.cli.base import Command
from hostler.errors import HostlerError
from hostler.flows import graph

_SUFFIXES = {"svg": ".svg", "dot": ".dot", "mermaid": ".mmd", "json": ".json"}


def add(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options of every command that draws."""
    parser.add_argument("--format", choices=graph.FORMATS, default="svg", help="Otherwise svg.")
    parser.add_argument("--open", action="store_true", help="Open it in the browser instead of printing it.")
    return parser


def show(asker: Command, drawn: str, parsed_args: argparse.Namespace) -> None:
    """Print the drawing, or open it; the file stays, since a browser reads it when it likes."""
    if not parsed_args.open:
        asker.print(drawn.rstrip("\n"))
        return
    suffix = _SUFFIXES[parsed_args.format]
    with tempfile.NamedTemporaryFile(
        "w", prefix="hostler-", suffix=suffix, delete=False, encoding="utf-8"
    ) as file:
        file.write(drawn)
    if not webbrowser.open(Path(file.name).as_uri()):
        raise HostlerError(
            "no browser could be opened", hint=f"less {file.name}; without --open the drawing is printed"
        )
    asker.print(file.name)
