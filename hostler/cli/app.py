"""The program ``hostler``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cliff.app import App
from cliff.commandmanager import CommandManager

from hostler import __version__
from hostler.cli.base import EXIT_INTERRUPTED, UsageError, say, unexpected
from hostler.errors import HostlerError
from hostler.views.text import printable

if TYPE_CHECKING:
    from cliff.command import Command
    from oslo_config import cfg

    from hostler.jobboard.client import Client

EXIT_USAGE = 2

# oslo.utils looks whether eventlet is installed, and that takes 0.4 s and speaks up; nothing here runs on it.
sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]

DESCRIPTION = (
    "Move stopped virtual machines between libvirt hosts."
    " Exit codes: 0 done, 1 error, 2 usage, 3 refused before anything changed, 4 reverted (the server is back"
    " where it was), 5 needs an operator."
)


class Commands(CommandManager):
    """The commands of an entry point namespace, each imported when it is asked for."""

    def load_commands(self, namespace: str) -> None:
        """Add the namespace's commands without importing them."""
        self.group_list.append(namespace)
        for entry in importlib.metadata.entry_points(group=namespace):
            self.commands[entry.name.replace("_", " ")] = entry

    def add_command(self, name: str, command_class: type[Command]) -> None:
        """Add one of cliff's own commands, where hostler has none of that name."""
        if name not in self.commands:
            super().add_command(name, command_class)


class PrintableFormatter(logging.Formatter):
    """A log line that a terminal takes as text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; only a traceback has more than one."""
        return "\n".join(printable(line) for line in super().format(record).splitlines())


def _own(record: logging.LogRecord) -> bool:
    # a server that is away is the command's own error: its library need not say so twenty times
    return record.name.split(".")[0] == "hostler"


class HostlerApp(App):
    """``hostler``."""

    NAME = "hostler"
    LOG = logging.getLogger("hostler")
    DEFAULT_VERBOSE_LEVEL = 0

    def __init__(
        self, client_factory: Callable[[cfg.ConfigOpts], Client] | None = None, **streams: Any
    ) -> None:
        super().__init__(
            DESCRIPTION, __version__, Commands("hostler.commands"), deferred_help=True, **streams
        )
        self._client_factory = client_factory

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: dict[str, Any] | None = None
    ) -> argparse.ArgumentParser:
        """Return the parser of the global options."""
        kwargs = {"allow_abbrev": False, "prog": self.NAME} | (argparse_kwargs or {})
        parser = super().build_option_parser(description, version, kwargs)
        parser.add_argument(
            "--config-file",
            action="append",
            metavar="FILE",
            help="Read the settings from FILE, not from /etc/hostler/hostler.conf. May be repeated.",
        )
        return parser

    def configure_logging(self) -> None:
        """Send the log to stderr: warnings of hostler itself; everything with --debug or -v."""
        root = logging.getLogger("")
        handler = logging.StreamHandler(self.stderr)
        handler.setFormatter(PrintableFormatter(self.CONSOLE_MESSAGE_FORMAT))
        loud = self.options.debug or self.options.verbose_level > 0
        handler.setLevel(logging.DEBUG if self.options.debug else logging.INFO if loud else logging.WARNING)
        if not loud:
            handler.addFilter(_own)
        root.setLevel(logging.DEBUG if loud else logging.WARNING)
        root.addHandler(handler)
        logging.captureWarnings(True)

    def run(self, argv: list[str]) -> int:
        """Run the command that *argv* names; without one, print the help."""
        self.options, rest = self.parser.parse_known_args(argv)
        if not rest and not self.options.deferred_help:
            self.parser.print_usage(self.stderr)
            self.stderr.write("hostler --help lists the commands\n")
            return EXIT_USAGE
        return super().run(argv)

    def run_subcommand(self, argv: list[str]) -> int:
        """Run one command; an unknown one is told on stderr, where no script reads it as output."""
        try:
            self.command_manager.find_command(argv)
        except ValueError:
            return self._unknown(argv)
        return super().run_subcommand(argv)

    def _unknown(self, argv: list[str]) -> int:
        words = printable(" ".join(argv))
        known = ", ".join(self.get_fuzzy_matches(argv[0]))
        hint = f"hostler --help; perhaps {known} is meant" if known else "hostler --help"
        return say(UsageError(f"no command is called {words!r}", hint=hint))

    def conf(self) -> cfg.ConfigOpts:
        """Read the settings; half a configuration is refused by whoever needs the other half."""
        from hostler import conf

        return conf.load(self.options.config_file)

    def client(self) -> Client:
        """Return the asking side; it connects when it is used."""
        from hostler import conf

        settings = self.conf()
        if self._client_factory is not None:
            return self._client_factory(settings)
        conf.check(settings)
        from hostler.jobboard.client import Client

        return Client(settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hostler``: the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return HostlerApp().run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except HostlerError as error:
        return say(error)
    except Exception as error:
        if "--debug" in (argv or sys.argv):
            raise
        return say(unexpected(error))
    finally:
        _flush()


def _flush() -> None:
    """Write out what is left; whoever read it may have gone (``| head``)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
