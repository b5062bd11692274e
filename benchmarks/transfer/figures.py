"""What is measured beside speed: what is sent twice, how exact a rate is, what memory and a verification cost."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.transfer.data import GIB, MIB, allocated, change, sync
from benchmarks.transfer.ours import MIGRATION, Order, sent_so_far

#: Rates, as shares of the disk a second, and for how long each is kept.
_RATES, _RATE_S = (0.04, 0.02, 0.03), 10.0
_CHANGED = 0.01


def resume(order: Order) -> dict[str, float]:
    """Kill the sending process when half has left, and carry on: the share of the bytes that went twice."""
    replace(order, stop_at=0.5, keep=True).run()
    first = sent_so_far(order)
    second = order.run()["sent_bytes"]
    whole = allocated(Path(order.source))
    return {"resume_twice_share": (first + second - whole) / whole}


def delta(order: Order) -> dict[str, float]:
    """Change one block in a hundred after a copy, and copy again: the share of the bytes that went."""
    replace(order, keep=True).run()
    change(Path(order.source), _CHANGED)
    second = order.run()["sent_bytes"]
    return {"delta_share": second / allocated(Path(order.source))}


def rate(order: Order) -> dict[str, float]:
    """Send at one rate after the other: how far the worst is from what was set."""
    rates = tuple(int(share * Path(order.source).stat().st_size) for share in _RATES)
    found = replace(order, rates=rates, rate_s=_RATE_S).run()["rates"]
    return {"rate_error": max(abs(got / want - 1) for got, want in zip(found, rates, strict=True))}


def verify(order: Order) -> dict[str, float]:
    """Verify a copy: how many bytes are read, as a multiple of what is allocated."""
    digest = replace(order, keep=True).run()["digest"]
    read = _verified(order, digest)
    return {"verify_read_ratio": read / allocated(Path(order.dest))}


def _verified(order: Order, digest: dict[str, Any]) -> int:
    from hostler.drivers.images.receiver import NbdReceiver
    from hostler.drivers.images.verifier import DiskVerifier
    from hostler.objects import Export, ImageDigest

    base = Path(order.directory)
    export = Export("0", order.source, order.dest, Path(order.source).stat().st_size, True)
    before = _read_bytes()
    DiskVerifier(base / "state").verify(MIGRATION, export, ImageDigest.from_dict(digest), lambda: None)
    read = _read_bytes() - before
    NbdReceiver(base / "state", base / "run", "127.0.0.1", (21850, 21860)).forget(MIGRATION)
    return read


def memory(order: Order) -> dict[str, float]:
    """Send 2 TiB of which 1 GiB is allocated: the most memory of either process, MiB."""
    source = Path(order.source).with_name("huge")
    with source.open("wb") as file:
        file.truncate(2048 * GIB)
        for number in range(256):
            file.seek(number * 8 * GIB)
            file.write(os.urandom(4 * MIB))
    sync(source)
    found = replace(order, source=str(source)).run()
    source.unlink()
    return {"memory_mib": max(found["sender_mib"], found["receiver_mib"])}


def all_of(directory: Path, dense: Path, sparse: Path) -> dict[str, float]:
    """Return all figures, by name."""
    dest = directory / "dest"
    found: dict[str, float] = {}
    for measure, source in (
        (resume, dense),
        (delta, dense),
        (rate, dense),
        (verify, sparse),
        (memory, sparse),
    ):
        order = Order(str(directory / "ours"), str(source), str(dest))
        found |= measure(order)
        dest.unlink(missing_ok=True)
        shutil.rmtree(directory / "ours")
    return found


def _read_bytes() -> int:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"])
