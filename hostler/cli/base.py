"""What every command shares: settings, the asking side, and errors that become an exit code."""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cliff.columns import FormattableColumn
from cliff.command import Command as CliffCommand
from cliff.display import DisplayCommandBase
from cliff.lister import Lister as CliffLister
from cliff.show import ShowOne as CliffShowOne
from oslo_config import cfg

from hostler.cli.table import Fitting, room
from hostler.errors import BadConfiguration, HostlerError, Interrupted
from hostler.views.text import printable

if TYPE_CHECKING:
    from hostler.cli.app import HostlerApp

EXIT_INTERRUPTED = 130

#: Formats that have an escape of their own for whatever a name may hold.
FAITHFUL = ("json", "yaml")


class UsageError(HostlerError):
    """The command line asks for something that does not exist."""

    exit_code = 2
    hint_template = "hostler --help"


def say(error: HostlerError) -> int:
    """Print an error and the way out of it; return the exit code."""
    print(f"hostler: {printable(error)}", file=sys.stderr)  # noqa: T201
    if error.hint:
        print(f"  try: {printable(error.hint)}", file=sys.stderr)  # noqa: T201
    return error.exit_code


def unexpected(error: BaseException) -> HostlerError:
    """Return the sentence for an error that nobody raised on purpose."""
    again = shlex.join(["hostler", "--debug", *sys.argv[1:]])
    return HostlerError(
        f"unexpected {type(error).__name__}: {error}", hint=again + "; shows where it comes from"
    )


class Reporting(CliffCommand):
    """Mixin: whatever goes wrong is a sentence, a hint and an exit code. cliff alone would make it a 1."""

    app: HostlerApp

    def get_epilog(self) -> str:
        """Return no more than the command's own: cliff reads every installed distribution for the rest."""
        return self._epilog or ""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command; return its exit code."""
        try:
            return super().run(parsed_args)
        except BrokenPipeError:
            raise
        except HostlerError as error:
            self._trace()
            return say(error)
        except cfg.Error as error:  # oslo.config reads a value when it is asked for, not before
            self._trace()
            return say(BadConfiguration(where="the settings", problem=str(error)))
        except Interrupted as error:
            self._trace()
            return say(HostlerError(str(error)))
        except Exception as error:  # noqa: BLE001 - the operator gets a sentence, not a traceback
            self._trace()
            return say(unexpected(error))

    def _trace(self) -> None:
        if self.app.options.debug:
            traceback.print_exc()


class Command(Reporting):
    """A command that prints as it goes."""

    def print(self, text: str = "") -> None:
        """Print a line at once."""
        self.app.stdout.write(text + "\n")
        self.app.stdout.flush()


class _Printable(DisplayCommandBase[Any]):
    typed: Sequence[str] = ()  #: columns or fields that are commands: no terminal is too narrow to paste them

    def _generate_columns_and_selector(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str]
    ) -> tuple[list[str], list[bool] | None]:
        try:
            return super()._generate_columns_and_selector(parsed_args, column_names)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _fit(
        self, parsed_args: argparse.Namespace, brief: Sequence[str] = (), spare: Sequence[str] = ()
    ) -> None:
        width = room(self.app.stdout)
        if parsed_args.formatter == "table" and width is not None and parsed_args.max_width <= 0:
            self.formatter = Fitting(width, brief, spare, self.typed)

    def _escaped(self, parsed_args: argparse.Namespace, row: Iterable[Any]) -> list[Any]:
        return list(row) if parsed_args.formatter in FAITHFUL else [_escaped(cell) for cell in row]


def _escaped(cell: Any) -> Any:
    return printable(cell) if isinstance(cell, str) else "" if cell is None else cell


def _is_empty(cell: Any) -> bool:
    return (cell.human_readable() if isinstance(cell, FormattableColumn) else cell) == ""


class Lister(Reporting, _Printable, CliffLister):
    """A command that lists."""

    nothing = "there is none"  #: said where a table would have no row
    brief: Sequence[str] = ()  #: columns of which a narrow terminal gets the beginning
    spare: Sequence[str] = ()  #: columns that a narrow terminal does not get, the first one first

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Iterable[Sequence[Any]]
    ) -> int:
        """Print the rows, nothing in them that a terminal would act upon; a table fits the terminal."""
        rows = [self._escaped(parsed_args, row) for row in data]
        if not rows and parsed_args.formatter == "table":
            self.app.stderr.write(f"hostler: {self.nothing}\n")
        # whoever names columns wants these
        self._fit(parsed_args, self.brief, () if parsed_args.columns else self.spare)
        return super().produce_output(parsed_args, column_names, rows)


class ShowOne(Reporting, _Printable, CliffShowOne):
    """A command that shows one thing."""

    typed = ("hint",)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser; on a terminal a table is as wide as that, and long values go on beneath."""
        parser = super().get_parser(prog_name)
        parser.set_defaults(fit_width=True)
        return parser

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Sequence[Any]
    ) -> int:
        """Print the fields, nothing in them that a terminal would act upon.

        A table fits the terminal, and has nothing that is empty unless it was asked for.
        """
        self._fit(parsed_args)
        cells = self._escaped(parsed_args, data)
        if parsed_args.formatter == "table" and not parsed_args.columns:
            said = [
                (name, cell) for name, cell in zip(column_names, cells, strict=True) if not _is_empty(cell)
            ]
            column_names, cells = [name for name, _ in said], [cell for _, cell in said]
        return super().produce_output(parsed_args, column_names, cells)
