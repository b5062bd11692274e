"""The destination's side of the check: reads this host's disk beside the receiver, and answers what is asked."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hostler import errors
from hostler.drivers.images import check, extents, manifest
from hostler.drivers.images.check import Answer, Question
from hostler.drivers.images.verifier import differences, reading_part
from hostler.objects import Export

LOG = logging.getLogger(__name__)

#: Between two looks whether something is asked; and between two signs of life of an answer that takes long.
LOOK_S, SIGN_S = 0.05, 1.0


@dataclass(frozen=True)
class Asked:
    """One export: where its questions come, what it is compared with, and where it lies."""

    questions: Path
    manifest: Path
    part: Path
    export: Export


class _Over(Exception):
    """The receiver is being closed."""


class Checker:
    """Answers for one receiver, in a thread of its own, for as long as *recorded* says that it is open."""

    def __init__(self, migration: str, asked: Sequence[Asked], recorded: Callable[[], bool]) -> None:
        self._migration = migration
        self._asked = list(asked)
        self._recorded = recorded
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"check-{migration[:8]}", daemon=True)
        self._thread.start()

    @property
    def answers(self) -> bool:
        """Whether it does."""
        return self._thread.is_alive()

    def end(self) -> None:
        """End it, and see that it has let go of every disk."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_S) and self._recorded():
            for asked in self._asked:
                try:
                    self._look(asked)
                except _Over:
                    return
                except OSError as error:
                    LOG.warning("%s: a question could not be answered: %s", asked.questions, error.strerror)
                    self._over.wait(SIGN_S)

    def _look(self, asked: Asked) -> None:
        fd = os.open(asked.questions, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            question = check.read_question(os.pread(fd, check.QUESTION_BYTES, 0))
            answer = check.read_answer(os.pread(fd, check.ANSWER_BYTES, check.ANSWER_OFFSET))
            known = answer is not None and answer.state != check.READING
            if question and not (known and answer and answer.number == question.number):
                self._say(fd, self._answer(asked, question, fd))
        finally:
            os.close(fd)

    def _answer(self, asked: Asked, question: Question, fd: int) -> Answer:
        try:
            return self._compare(asked, question, fd)
        except errors.HostlerError as error:
            return Answer(question.number, check.REFUSED, reason=str(error))

    def _compare(self, asked: Asked, question: Question, fd: int) -> Answer:
        left = manifest.load(asked.manifest, self._migration)
        if left.digest != question.digest:
            raise errors.InvalidDiskInfo(
                path=str(asked.manifest), reason="the manifest is not the one that left"
            )
        stop = min(question.stop, -(-left.size_bytes // extents.BLOCK_BYTES))
        found: list[check.Difference] = []
        signs = _Signs(self._over, lambda sign: self._say(fd, sign), question.number)
        with reading_part(asked.part, asked.export, left.size_bytes) as disk:
            for block in differences(disk, left, signs.look, question.first, stop):
                found.append(block)
                if len(found) == check.MOST_BLOCKS:
                    stop = block.index + 1
                    break
        return Answer(question.number, check.DONE, signs.count, stop, found)

    @staticmethod
    def _say(fd: int, answer: Answer) -> None:
        os.pwrite(fd, answer.pack(), check.ANSWER_OFFSET)


class _Signs:
    """Shows now and then that the disk is being read."""

    def __init__(self, over: threading.Event, say: Callable[[Answer], None], number: int) -> None:
        self._over = over
        self._say = say
        self._answer = Answer(number, check.READING)
        self._due = 0.0
        self.count = 0

    def look(self) -> None:
        """Note that one more block is read."""
        if self._over.is_set():
            raise _Over
        self.count += 1
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + SIGN_S
            self._say(replace(self._answer, looked_at=self.count))
