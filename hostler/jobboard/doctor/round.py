"""One round over everything: look, compare, mend if told so, and look again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from hostler.errors import HostlerError, ServerUnreachable
from hostler.jobboard.board import Board
from hostler.jobboard.doctor import (
    at_boards,
    at_fleet,
    at_host,
    at_records,
    findings,
    mend_boards,
    mend_records,
    recorded,
)
from hostler.jobboard.doctor.at_boards import Boards
from hostler.jobboard.doctor.findings import Finding, Severity
from hostler.jobboard.doctor.letters import Asking, facts_of
from hostler.jobboard.doctor.look import HostFacts
from hostler.jobboard.doctor.recorded import Recorded
from hostler.records.database import Database

_WORST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.INFO)


@dataclass(frozen=True)
class Report:
    """What a round has found."""

    findings: list[Finding] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)  #: that have been looked at
    unseen: list[str] = field(default_factory=list)  #: that could not be

    @property
    def exit_code(self) -> int:
        """0: all is clean; 1: a host could not be looked at; 5: something needs an operator."""
        if self.unseen:
            return 1
        return 5 if any(finding.needs_operator for finding in self.findings) else 0


class Doctor:
    """Compares all hosts, or one. *timeout_s*: how long a host may take to look at itself."""

    def __init__(
        self, database: Database, board: Board, *, timeout_s: float, posting_timeout_s: float = 30.0
    ) -> None:
        self._database = database
        self._board = board
        self._timeout_s = timeout_s
        self._posting_timeout_s = posting_timeout_s

    def examine(self, host: str | None = None) -> Report:
        """Look at everything, and say what is not as it should be; with *host*, what is not so there."""
        with self._zookeeper_away():
            return self._examine(host)

    def fix(self, host: str | None = None) -> Report:
        """Mend what is safely mended, and look again; what was mended is in the report, too."""
        with self._zookeeper_away():
            before = self._examine(host)
            left = self._mend([finding for finding in before.findings if finding.safe])
            after = self._examine(host)
        still = {finding.key for finding in after.findings}
        mended = [
            dataclasses.replace(finding, mended=True)
            for finding in before.findings
            if finding.safe and finding.key not in still
        ]
        remaining = [
            finding.left(left[finding.key]) if finding.key in left else finding for finding in after.findings
        ]
        return dataclasses.replace(after, findings=[*mended, *remaining])

    def _examine(self, host: str | None) -> Report:
        earlier = recorded.read(self._database)
        chosen = earlier.hosts if host is None else [host]
        answers = Asking(self._board, self._timeout_s).ask({one: {"ask": "look"} for one in earlier.hosts})
        boards = at_boards.read(self._board)
        records = recorded.read(self._database).was_busy(earlier)
        looks: dict[str, HostFacts] = {}
        found = []
        for one, answer in answers.items():
            facts = facts_of(answer)
            if isinstance(facts, HostFacts):
                looks[one] = facts
            else:
                by = findings.start_worker(one) if answer.get("dead") else findings.worker_log(one)
                found.append(at_fleet.unseen(one, facts, by))
        found += self._compare(looks, boards, records)
        return Report(
            findings=_sorted([finding for finding in found if host in (None, finding.host)]),
            hosts=[one for one in chosen if one in looks],
            unseen=[one for one in chosen if one not in looks],
        )

    def _compare(self, looks: dict[str, HostFacts], boards: Boards, records: Recorded) -> Iterator[Finding]:
        for facts in looks.values():
            yield from at_host.examine(facts, records)
        yield from at_fleet.examine(looks, records)
        yield from at_records.examine(records, boards.alive)
        yield from at_boards.examine(boards, records, self._posting_timeout_s)

    # -- mending ------------------------------------------------------------------------------------------

    def _mend(self, wanted: Sequence[Finding]) -> dict[str, str]:
        """Mend; return what was left, and why. Boards first: a job that is nobody's may yet be taken."""
        left: dict[str, str] = {}
        questions: dict[str, dict[str, object]] = {}
        for finding in wanted:
            if mend_boards.mends(finding) or mend_records.mends(finding):
                if reason := self._mend_here(finding):
                    left[finding.key] = reason
            else:
                keys = questions.setdefault(finding.host, {"ask": "mend", "keys": []})["keys"]
                keys.append(finding.key)  # type: ignore[attr-defined]
        for answer in Asking(self._board, self._timeout_s).ask(questions).values():
            left |= answer.get("left", {})
        return left

    def _mend_here(self, finding: Finding) -> str | None:
        try:
            if mend_boards.mends(finding):
                mend_boards.mend(self._database, self._board, finding)
            else:
                mend_records.mend(self._database, finding)
        except ServerUnreachable:
            raise
        except HostlerError as error:
            return str(error)
        return None

    @contextmanager
    def _zookeeper_away(self) -> Iterator[None]:
        try:
            yield
        except (KazooException, KazooTimeoutError) as error:
            where = ",".join(f"{name}:{port}" for name, port in self._board.client.hosts)
            reason = str(error) or type(error).__name__
            raise ServerUnreachable(what="ZooKeeper", where=where, reason=reason) from error


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: (_WORST_FIRST.index(one.severity), one.host, one.kind, one.object))
