"""Waiting for what was asked for, or saying how to watch it."""

from __future__ import annotations

import argparse
from typing import Any

from hostler.cli import watch
from hostler.cli.base import Command, UsageError
from hostler.views.text import command


def add(parser: argparse.ArgumentParser) -> None:
    """Add ``--wait`` and what goes with it."""
    parser.add_argument("--wait", action="store_true", help="Show how far it is, until it is done or undone.")
    parser.add_argument(
        "--timeout",
        type=watch.seconds,
        metavar="SECONDS",
        help="Wait no longer than this. The migration goes on; the exit code is 1.",
    )
    watch.add_format(parser)


def check(parsed_args: argparse.Namespace, waits: bool) -> None:
    """Refuse a time to wait where nothing waits."""
    if parsed_args.timeout is not None and not waits:
        hint = "hostler migration watch --timeout 60 MIGRATION; the same command with --wait does both"
        raise UsageError("--timeout is how long to wait: it needs --wait", hint=hint)


def follow(asker: Command, client: Any, migration: str, parsed_args: argparse.Namespace) -> int:
    """Follow the migration if told so; return the exit code."""
    if parsed_args.wait:
        return watch.follow(
            client, migration, asker.app.stdout, fmt=parsed_args.format, timeout_s=parsed_args.timeout
        )
    asker.print(migration)
    asker.print(f"  watch it: {command('migration', 'watch', migration)}")
    return 0
