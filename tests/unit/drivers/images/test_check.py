"""What the destination finds on its disk while its receiver is there is sent again; what stays wrong is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.images import check, mending
from hostler.drivers.images.check import Answer, Difference, Question
from hostler.drivers.images.extents import BLOCK_BYTES
from hostler.objects import Export, ImageDigest, ReceiverAddress
from tests.unit.drivers.images.conftest import Pair, dense, make_file, nothing, same


@pytest.fixture
def sent(pair: Pair) -> tuple[ReceiverAddress, list[ImageDigest]]:
    """A disk with a hole that has arrived; its receiver is still there."""
    source = make_file(
        pair.base / "src" / "disk", 5 * BLOCK_BYTES + 77, (0, 100), (2 * BLOCK_BYTES, 3 * BLOCK_BYTES)
    )
    address = pair.open(pair.export("0", source))
    return address, pair.send(address)


def flip(path: str | Path, offset: int) -> None:
    with Path(path).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def mend(pair: Pair, address: ReceiverAddress, left: list[ImageDigest]) -> int:
    return pair.sender.mend(address, left, nothing, 10)


def finish(pair: Pair, export: Export, digest: ImageDigest) -> None:
    pair.receiver.close(pair.migration)
    pair.verify(export, digest)


def test_what_arrived_whole_is_not_sent_again(
    pair: Pair, sent: tuple[ReceiverAddress, list[ImageDigest]]
) -> None:
    assert mend(pair, *sent) == 0


@pytest.mark.parametrize("offset", [0, BLOCK_BYTES + 5, 3 * BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 76])
def test_a_bit_that_flipped_on_the_destinations_disk_costs_its_block(
    pair: Pair, sent: tuple[ReceiverAddress, list[ImageDigest]], offset: int
) -> None:
    address, left = sent
    export = address.exports[0]
    flip(export.part, offset)
    assert mend(pair, address, left) == 1
    finish(pair, export, left[0])
    assert same(export.source, export.part)


def test_more_blocks_than_an_answer_holds(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MOST_BLOCKS", 2)
    export = pair.export("0", dense(pair.base / "src" / "disk", 5))
    address = pair.open(export)
    left = pair.send(address)
    for index in range(5):
        flip(export.part, index * BLOCK_BYTES)
    assert mend(pair, address, left) == 5
    finish(pair, export, left[0])


def test_a_block_that_stays_wrong_names_disk_offset_and_hashes(
    pair: Pair, sent: tuple[ReceiverAddress, list[ImageDigest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, left = sent
    flip(address.exports[0].part, 3 * BLOCK_BYTES)
    monkeypatch.setattr(mending.Mender, "_send", lambda *_: None)  # a disk that does not take it
    with pytest.raises(
        errors.ImageMismatch, match=rf"part-0 differs at offset {3 * BLOCK_BYTES}: [0-9a-f]{{64}} left"
    ):
        mend(pair, address, left)


def test_a_source_that_has_changed_since_is_not_sent(
    pair: Pair, sent: tuple[ReceiverAddress, list[ImageDigest]]
) -> None:
    address, left = sent
    flip(address.exports[0].part, 3 * BLOCK_BYTES)
    flip(address.exports[0].source, 3 * BLOCK_BYTES + 9)
    with pytest.raises(errors.ImageUnreadable, match="changed during the copy"):
        mend(pair, address, left)


def test_a_manifest_that_arrived_damaged_is_said_so(
    pair: Pair, sent: tuple[ReceiverAddress, list[ImageDigest]]
) -> None:
    flip(pair.base / "state" / pair.migration / "0.manifest", 130)
    with pytest.raises(errors.ImageTransferError, match="the manifest is damaged"):
        mend(pair, *sent)


def test_a_worker_that_is_away_is_not_waited_for(
    pair: Pair,
    sent: tuple[ReceiverAddress, list[ImageDigest]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(mending, "SILENCE_S", 0.2)
    pair.receiver._checkers.pop(pair.migration).end()
    with caplog.at_level(logging.WARNING):
        assert mend(pair, *sent) == 0
    assert "worker is away" in caplog.text


def test_a_worker_that_is_back_answers(pair: Pair, sent: tuple[ReceiverAddress, list[ImageDigest]]) -> None:
    address, left = sent
    pair.receiver._checkers.pop(pair.migration).end()
    pair.receiver = pair.renew()
    pair.receiver.restore()
    flip(address.exports[0].part, 3 * BLOCK_BYTES)
    assert mend(pair, address, left) == 1


def test_closing_ends_the_checks(pair: Pair, sent: tuple[ReceiverAddress, list[ImageDigest]]) -> None:
    checker = pair.receiver._checkers[pair.migration]
    assert checker.answers
    pair.receiver.close(pair.migration)
    assert not checker.answers


def test_a_frame_that_is_torn_or_was_never_written_says_nothing() -> None:
    question = Question(7, "ab" * 32, 0, 3)
    answer = Answer(7, check.DONE, 3, 3, [Difference(2, b"a" * 32, b"b" * 32)])
    assert check.read_question(question.pack()) == question
    assert check.read_answer(answer.pack()) == answer
    for frame, read in ((question.pack(), check.read_question), (answer.pack(), check.read_answer)):
        assert read(bytes(len(frame))) is None
        assert read(frame[:20] + bytes([frame[20] ^ 1]) + frame[21:]) is None
        assert read(frame[:-1]) is None
