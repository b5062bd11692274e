"""Printing a drawing, as text where a terminal shows it, or opening it with whatever the operator's desktop has."""

from __future__ import annotations

import argparse
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path

from hostler.cli.base import Command
from hostler.cli.table import room
from hostler.errors import HostlerError
from hostler.flows import graph

_SUFFIXES = {"svg": ".svg", "dot": ".dot", "mermaid": ".mmd", "json": ".json", "text": ".txt"}


def add(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options of every command that draws."""
    parser.add_argument(
        "--format",
        choices=graph.FORMATS,
        help="Otherwise text on a terminal; svg elsewhere, and with --open.",
    )
    parser.add_argument("--open", action="store_true", help="Open it in the browser instead of printing it.")
    return parser


def show(asker: Command, draw: Callable[[str, int | None], str], parsed_args: argparse.Namespace) -> None:
    """Print what *draw* makes of a format and a width, or open it; the file stays for the browser to read."""
    width = None if parsed_args.open else room(asker.app.stdout)
    fmt = parsed_args.format or ("svg" if width is None else "text")
    drawn = draw(fmt, width)
    if not parsed_args.open:
        asker.print(drawn.rstrip("\n"))
        return
    suffix = _SUFFIXES[fmt]
    with tempfile.NamedTemporaryFile(
        "w", prefix="hostler-", suffix=suffix, delete=False, encoding="utf-8"
    ) as file:
        file.write(drawn)
    if not webbrowser.open(Path(file.name).as_uri()):
        raise HostlerError(
            "no browser could be opened", hint=f"less {file.name}; without --open the drawing is printed"
        )
    asker.print(file.name)
