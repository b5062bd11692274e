"""Regular files in the place of block devices, for tests that need more of these than a machine has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from hostler.drivers import devices


@contextmanager
def stand_ins() -> Iterator[None]:
    """Let regular files be taken for block devices where one is looked for."""

    def is_block(status: os.stat_result) -> bool:
        return stat.S_ISBLK(status.st_mode) or stat.S_ISREG(status.st_mode)

    with mock.patch.object(devices, "is_block", is_block):
        yield
