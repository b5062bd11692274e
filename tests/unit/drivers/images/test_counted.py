"""What leaves a host is counted, by whichever sender."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.errors import Cancelled
from hostler.metrics.meter import Meter
from hostler.metrics.sending import CountedSender

from .conftest import MIB, Pair, at_call, dense, make_file


def value(meter: Meter, name: str) -> float | None:
    return meter.registry.get_sample_value(name)


def test_bytes_are_counted_as_they_leave_and_holes_are_none(pair: Pair) -> None:
    meter = Meter()
    sender = CountedSender(pair.sender, meter)
    exports = [
        pair.export("0", dense(pair.base / "src" / "disk")),
        pair.export("1", make_file(pair.base / "src" / "sparse", 90 * MIB, (0, MIB))),
    ]
    copies = []

    def look(_progress: object) -> None:
        copies.append(value(meter, "hostler_copies"))

    sender.send(pair.open(*exports), look, lambda: None, 10)
    assert value(meter, "hostler_sent_bytes_total") == 8 * BLOCK_BYTES + MIB
    assert set(copies) == {1}
    assert value(meter, "hostler_copies") == value(meter, "hostler_send_rate_bytes_per_second") == 0


def test_a_copy_that_is_stopped_is_under_way_no_more(pair: Pair) -> None:
    meter = Meter()

    def stop() -> None:
        raise Cancelled("it is not wanted")

    disk = pair.export("0", dense(pair.base / "src" / "disk"))
    with pytest.raises(Cancelled):
        CountedSender(pair.sender, meter).send(pair.open(disk), lambda _: None, at_call(6, stop), 10)
    assert value(meter, "hostler_copies") == value(meter, "hostler_send_rate_bytes_per_second") == 0


def test_a_block_that_the_destinations_disk_has_lost_is_counted(pair: Pair) -> None:
    meter = Meter()
    sender = CountedSender(pair.sender, meter)
    address = pair.open(disk := pair.export("0", dense(pair.base / "src" / "disk")))
    left = sender.send(address, lambda _: None, lambda: None, 10)
    with Path(disk.part).open("r+b") as file:
        file.write(b"lost")
    assert sender.mend(address, left, lambda: None, 10) == 1
    assert value(meter, "hostler_mended_blocks_total") == 1
