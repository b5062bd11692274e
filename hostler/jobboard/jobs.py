"""What the nodes of a board say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from hostler.objects import Record

FORMAT = 1

#: What the names in a posting look like; each may become a part of a node's path.
_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,254}")
#: Far beyond any count of claims, and still within a database's integers.
_HIGHEST = 2**62


def is_name(text: object) -> bool:
    """Tell whether *text* can be a part of a node's path, and be asked for in any database."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class Posting(Record):
    """What a job says."""

    migration: str
    instance: str
    flow: str
    flow_uuid: str
    epoch: int = 0  #: raised by each claim; carried along by each hand-over
    attempts: int = 0  #: claims since the job last came to a board
    format: int = FORMAT

    def encode(self) -> bytes:
        """Return the node's contents."""
        return json.dumps(self.to_dict(), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Posting | None:
        """Read a node's contents; None for anything that this version did not write."""
        try:
            posting = cls.from_dict(json.loads(data))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        texts = (posting.migration, posting.instance, posting.flow, posting.flow_uuid)
        numbers = (posting.epoch, posting.attempts)
        sane = all(map(is_name, texts)) and all(
            type(number) is int and 0 <= number <= _HIGHEST for number in numbers
        )
        return posting if sane and posting.format == FORMAT else None


@dataclass(frozen=True)
class Claim:
    """A job that this session works on."""

    host: str
    posting: Posting
    version: int  #: of the job's node since the claim


@dataclass(frozen=True)
class Place:
    """Which migration holds a server, and on which board its job is."""

    migration: str
    board: str
    version: int
