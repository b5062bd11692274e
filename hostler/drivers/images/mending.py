"""The source's side of the check: asks what lies on the destination's disk, and sends again what differs."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from hostler import errors
from hostler.drivers.images import Checkpoint, check, extents
from hostler.drivers.images.check import Answer, Difference, Question
from hostler.drivers.images.link import Broken, NoSuchExport, Outage
from hostler.drivers.images.outgoing import Outgoing
from hostler.drivers.images.pace import Pace
from hostler.objects import ImageDigest

LOG = logging.getLogger(__name__)

#: Between two looks at the answer, and between two attempts to connect.
LOOK_S, RETRY_S = 0.05, 0.5
#: Without a sign of life for so long the destination's worker is away, and the check is left to the verification.
SILENCE_S = 10.0


class Connection(Protocol):
    """A connection to one export, as :class:`~hostler.drivers.images.link.Link` is one."""

    def read(self, length: int, offset: int) -> bytes:
        """Return what the receiver has there."""

    def write(self, view: memoryview, offset: int) -> None:
        """Write."""

    def zero(self, length: int, offset: int) -> None:
        """Make a range read as zeros."""

    def flush(self, go_on: Checkpoint, /) -> None:
        """See what was written on stable storage; *go_on*, called meanwhile, may stop it."""


#: Holds a connection to the export of that name; may raise :class:`Broken`.
Connect = Callable[[str, Outgoing], AbstractContextManager[Connection]]


class Mender:
    """Asks about one file after the other. It runs in the caller's thread, which *checkpoint* may stop."""

    def __init__(self, connect: Connect, checkpoint: Checkpoint, outage: Outage, pace: Pace) -> None:
        self._connect = connect
        self._checkpoint = checkpoint
        self._outage = outage
        self._pace = pace
        self._buffer = extents.Buffer()

    def mend(self, file: Outgoing, left: ImageDigest) -> int:
        """See that the destination's disk holds what *left*; return how many blocks were sent again.

        A block that differs once more is :class:`hostler.errors.ImageMismatch`.
        """
        first = mended = 0
        while first < -(-left.size_bytes // extents.BLOCK_BYTES):
            try:
                answer = self._ask(file, left, first, -(-left.size_bytes // extents.BLOCK_BYTES))
                if answer is None:
                    return mended
                for block in answer.differences:
                    self._mend_block(file, left, block)
                mended += len(answer.differences)
                first = answer.next
                self._outage.over()
            except NoSuchExport:
                LOG.info(
                    "%s: the destination, of an earlier version, checks nothing while it arrives", file.path
                )
                return mended
            except Broken as broken:
                self._outage.went_on(file.path, broken)
                self._wait(RETRY_S)
        return mended

    def _ask(self, file: Outgoing, left: ImageDigest, first: int, stop: int) -> Answer | None:
        """Return what the destination finds; None if nobody there answers."""
        question = Question(secrets.randbits(63), left.digest, first, stop)
        heard, seen = time.monotonic(), -1
        with self._connect(f"{file.export.name}.check", file) as link:
            link.write(memoryview(question.pack()), 0)
            while True:
                answer = check.read_answer(link.read(check.ANSWER_BYTES, check.ANSWER_OFFSET))
                if answer and answer.number == question.number:
                    if answer.state == check.DONE:
                        return answer
                    if answer.state == check.REFUSED:
                        raise file.failed(f"the destination cannot check it: {answer.reason}")
                    if answer.looked_at != seen:
                        heard, seen = time.monotonic(), answer.looked_at
                if time.monotonic() - heard > SILENCE_S:
                    LOG.warning(
                        "%s: the destination's worker is away: what arrived is not checked yet", file.path
                    )
                    return None
                self._wait(LOOK_S)

    def _mend_block(self, file: Outgoing, left: ImageDigest, block: Difference) -> None:
        text = "%s: %s left at offset %d, and %s lies at the destination: it is sent again"
        offset = block.index * extents.BLOCK_BYTES
        LOG.warning(text, file.path, block.expected.hex(), offset, block.actual.hex())
        self._send(file, block)
        again = self._ask(file, left, block.index, block.index + 1)
        for still in again.differences if again else ():
            raise errors.ImageMismatch(
                path=file.export.part, offset=offset, expected=still.expected.hex(), actual=still.actual.hex()
            )

    def _send(self, file: Outgoing, wanted: Difference) -> None:
        begin = wanted.index * extents.BLOCK_BYTES
        with file.reading():
            block = extents.read_block(file.fd, wanted.index, file.size_bytes, self._buffer)
        found = extents.block_hash(block) or extents.zeros_hash(len(block.view))
        if found != wanted.expected:
            raise file.unreadable("it was changed during the copy")
        with self._connect(file.export.name, file) as link:
            for offset, length in block.gaps:
                link.zero(length, begin + offset)
            for offset, length in block.segments:
                self._pace.take(length, self._checkpoint)
                link.write(block.view[offset : offset + length], begin + offset)
            link.flush(self._checkpoint)

    def _wait(self, seconds: float) -> None:
        self._checkpoint()
        time.sleep(seconds)
