"""The check: what lies on the destination's disk, asked for while its receiver still takes blocks.

The source writes a question into the file ``N.check`` of an export, the destination's worker writes the answer
behind it: so neither a disk's bytes nor its hashes cross the link, but those of blocks that differ. Little-endian::

    0     question: seal  number  digest of the manifest  first block  block behind the last
    512   answer:   seal  number  state  blocks, or bytes of text  looked at  next block, then
                    index  hash that left  hash that lies here     72 bytes each

A seal is BLAKE3 over what follows it; a frame that is torn or was never written is none. *looked at* grows while the
destination reads. An answer that is full ends at *next block*: whoever asks goes on there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

_SEAL_BYTES = 16
_QUESTION = struct.Struct("<Q32sQQ")
_ANSWER = struct.Struct("<QIIQQ")
_ENTRY = struct.Struct("<Q32s32s")
ANSWER_OFFSET = 512
QUESTION_BYTES = _SEAL_BYTES + _QUESTION.size
ANSWER_BYTES = 8192
FILE_BYTES = ANSWER_OFFSET + ANSWER_BYTES
#: How many blocks that differ an answer names.
MOST_BLOCKS = (ANSWER_BYTES - _SEAL_BYTES - _ANSWER.size) // _ENTRY.size
#: States of an answer.
READING, DONE, REFUSED = 1, 2, 3


@dataclass(frozen=True)
class Difference:
    """A block that is not what left. The hashes are BLAKE3, 32 bytes."""

    index: int
    expected: bytes
    actual: bytes


@dataclass(frozen=True)
class Question:
    """Which blocks of a file are to be compared with its manifest."""

    number: int  #: never the same twice for one receiver
    digest: str  #: of the manifest that the source has sent, hexadecimal
    first: int
    stop: int

    def pack(self) -> bytes:
        """Return the frame."""
        return _sealed(_QUESTION.pack(self.number, bytes.fromhex(self.digest), self.first, self.stop))


@dataclass(frozen=True)
class Answer:
    """What the destination says to the question of that number."""

    number: int
    state: int
    looked_at: int = 0  #: blocks so far
    next: int = 0  #: where it ended
    differences: Sequence[Difference] = ()
    reason: str = ""  #: why it is refused

    def pack(self) -> bytes:
        """Return the frame."""
        body = b"".join(_ENTRY.pack(block.index, block.expected, block.actual) for block in self.differences)
        count = len(self.differences)
        if self.state == REFUSED:
            body = self.reason.encode()[: ANSWER_BYTES - _SEAL_BYTES - _ANSWER.size]
            count = len(body)
        return _sealed(
            (_ANSWER.pack(self.number, self.state, count, self.looked_at, self.next) + body).ljust(
                ANSWER_BYTES - _SEAL_BYTES, b"\0"
            )
        )


def read_question(frame: bytes) -> Question | None:
    """Return the question in *frame*, if one is there."""
    body = _opened(frame, QUESTION_BYTES)
    if body is None:
        return None
    number, digest, first, stop = _QUESTION.unpack(body)
    return Question(number, digest.hex(), first, stop)


def read_answer(frame: bytes) -> Answer | None:
    """Return the answer in *frame*, if a whole one is there."""
    body = _opened(frame, ANSWER_BYTES)
    if body is None:
        return None
    number, state, count, looked_at, following = _ANSWER.unpack_from(body)
    if state == REFUSED:
        reason = body[_ANSWER.size :][:count].decode(errors="replace")
        return Answer(number, state, looked_at, following, reason=reason)
    if count > MOST_BLOCKS:
        return None
    entries = _ENTRY.iter_unpack(body[_ANSWER.size :][: count * _ENTRY.size])
    return Answer(number, state, looked_at, following, [Difference(*entry) for entry in entries])


def _sealed(body: bytes) -> bytes:
    return bytes(blake3(body).digest(length=_SEAL_BYTES)) + body


def _opened(frame: bytes, length: int) -> bytes | None:
    if len(frame) != length:
        return None
    seal, body = frame[:_SEAL_BYTES], frame[_SEAL_BYTES:]
    return body if any(seal) and seal == blake3(body).digest(length=_SEAL_BYTES) else None
