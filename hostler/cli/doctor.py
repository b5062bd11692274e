"""``hostler doctor``: what is not as it should be, on every host and between them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from hostler.cli.base import FAITHFUL, Lister
from hostler.records import hosts

_TIMEOUT_S = 30.0
_COLUMNS = ("Host", "Finding", "Try")
_MORE = ("Severity", "Kind", "Object", "Server", "Migration", "Safe", "Mended")


class Doctor(Lister):
    """Compare records, ZooKeeper, libvirt, file systems and ports of every host; list what does not agree.

    Exit codes: 0 all is clean, or --fix made it so; 5 something needs an operator; 1 a host could not be
    looked at, so that there may be more. Servers that a migration is at work on are not looked at.
    """

    typed = ("Try",)
    nothing = "all is as it should be"
    _exit_code = 0

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--fix",
            action="store_true",
            help="Remove what is proven garbage: it carries our mark, its migration is over, nobody uses it.",
        )
        parser.add_argument("--host", metavar="HOST", help="Only what is found on this host.")
        parser.add_argument(
            "--timeout",
            type=float,
            default=_TIMEOUT_S,
            metavar="SECONDS",
            help="How long a host may take to look at itself.",
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Return the exit code of what was found."""
        return super().run(parsed_args) or self._exit_code

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows; a table has those that an operator reads."""
        from hostler.jobboard import doctor

        with self.app.client() as client:
            if parsed_args.host is not None:
                with client.database.reading() as session:
                    hosts.get(session, parsed_args.host)
            posting_timeout_s = self.app.conf().zookeeper.posting_timeout
            round_ = doctor.Doctor(
                client.database,
                client.board,
                timeout_s=parsed_args.timeout,
                posting_timeout_s=posting_timeout_s,
            )
            report = (round_.fix if parsed_args.fix else round_.examine)(parsed_args.host)
        self._exit_code = report.exit_code
        whole = parsed_args.formatter in FAITHFUL or parsed_args.columns
        return (*_COLUMNS, *(_MORE if whole else ())), [_row(one, bool(whole)) for one in report.findings]


def _row(finding: Any, whole: bool) -> Sequence[Any]:
    shown = (finding.host, finding.text, "mended" if finding.mended else finding.command)
    if not whole:
        return shown
    things = (str(finding.severity), finding.kind, finding.object, finding.instance, finding.migration)
    return (*shown, *things, finding.safe, finding.mended)
