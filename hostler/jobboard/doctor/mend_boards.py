"""Mending ZooKeeper: with the operations that the workers use, each of which expects what was seen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kazoo.exceptions import NoNodeError, NotEmptyError

from hostler.errors import MigrationError
from hostler.jobboard.board import Board
from hostler.jobboard.doctor.findings import Finding
from hostler.jobboard.doctor.recorded import Standing, standing_of
from hostler.jobboard.posting import withdraw
from hostler.jobboard.reconciler import post_again
from hostler.records import moves
from hostler.records.database import Database
from hostler.records.models import Host, Migration


def mends(finding: Finding) -> bool:
    """Tell whether the finding is about ZooKeeper."""
    return finding.kind in _MENDERS


def mend(database: Database, board: Board, finding: Finding) -> None:
    """Do it; raises what keeps it from being done."""
    _MENDERS[finding.kind](database, board, finding)


def _consume(database: Database, board: Board, finding: Finding) -> None:
    """Take a job off its board as a worker would, which holds it meanwhile."""
    claim = board.claim(finding.host, finding.migration)
    if claim is None:
        raise MigrationError("another session holds it, or it is gone")
    try:
        with database.reading() as session:
            row = session.get(Migration, finding.migration)
        stale = row is None or row.phase == "closed" or row.flow_uuid != claim.posting.flow_uuid
        if not stale and not _is_elsewhere(board, finding, claim.posting.instance):
            raise MigrationError(f"migration {finding.migration} is {Standing.UNDER_WAY}")
    except BaseException:
        board.abandon(claim, counts=False)
        raise
    board.consume(claim)


def _is_elsewhere(board: Board, finding: Finding, instance: str) -> bool:
    place = board.place(instance)
    return (
        place is not None
        and place.migration == finding.migration
        and place.board != finding.host
        and board.posting(place.board, finding.migration) is not None
    )


def _post_again(database: Database, board: Board, finding: Finding) -> None:
    if not post_again(database, board, _row(database, finding)):
        raise MigrationError("it cannot be posted: its flow cannot be read, or its server is held by another")


def _withdraw(database: Database, board: Board, finding: Finding) -> None:
    """Give up what was never posted; an attempt that follows another is posted instead."""
    if _row(database, finding).retry_of is not None:
        _post_again(database, board, finding)
        return
    reason = "it was never posted: whoever asked for it died in between"
    withdraw(database, _row(database, finding), reason)


def _row(database: Database, finding: Finding) -> Migration:
    with database.reading() as session:
        return moves.get(session, finding.migration)


def _release(database: Database, board: Board, finding: Finding) -> None:
    place = board.place(finding.instance)
    if place is None:
        return
    with database.reading() as session:
        row = session.get(Migration, place.migration)
    if row is not None and row.phase != "closed":
        raise MigrationError(f"migration {row.uuid} is {Standing.UNDER_WAY}")
    if board.posting(place.board, place.migration) is not None:
        raise MigrationError(f"its job is on {place.board}'s board")
    board.release(finding.instance, place)


def _unpark(database: Database, board: Board, finding: Finding) -> None:
    with database.reading() as session:
        row = session.get(Migration, finding.migration)
    if row is not None and row.phase == "parked":
        raise MigrationError("it is parked")
    board.unpark(finding.migration)


def _forget_wish(database: Database, board: Board, finding: Finding) -> None:
    with database.reading() as session:
        if standing_of(session, finding.migration) is Standing.UNDER_WAY:
            raise MigrationError(f"migration {finding.migration} is {Standing.UNDER_WAY}")
    board.forget_wish(finding.migration)


def _delete_board(database: Database, board: Board, finding: Finding) -> None:
    with database.reading() as session:
        if session.get(Host, finding.host) is not None:
            raise MigrationError(f"there is a record of {finding.host}")
    try:
        with contextlib.suppress(NoNodeError):
            board.client.delete(board.path("boards", finding.host))
    except NotEmptyError:
        raise MigrationError("there are jobs on it") from None


_MENDERS: dict[str, Callable[[Database, Board, Finding], None]] = {
    "stale-job": _consume,
    "no-job": _post_again,
    "never-posted": _withdraw,
    "held": _release,
    "parked-notice": _unpark,
    "wish": _forget_wish,
    "strange-board": _delete_board,
}
