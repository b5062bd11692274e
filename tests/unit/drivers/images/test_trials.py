"""Whether blocks travel packed is tried: on a link with a clock of its own, which settles pieces at given rates."""

from __future__ import annotations

from hostler.drivers.images.pace import Pace
from hostler.drivers.images.trials import FIRST_S, LONGEST_S, PIECES, Trials, Turn

MIB = 1 << 20
#: What one thread packs, bytes a second.
PACKS = 500 * MIB


class Line:
    """A copy over a link that settles so many bytes of disk a second, by each way."""

    def __init__(self, plain: float, packed: float, ratio: float = 0.3) -> None:
        self.rates = {False: plain, True: packed}
        self.ratio = ratio
        self.now = 0.0
        self.pace = Pace()
        self.trials = Trials(self.pace, 2, lambda: self.now)
        self.sent = {False: 0, True: 0}

    def copy(self, pieces: int) -> None:
        for _ in range(pieces):
            self.land(self.take())

    def copy_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.land(self.take())

    def take(self) -> Turn:
        turn = self.trials.next()
        if turn.pack or turn.look:
            self.trials.looked(MIB, int(MIB * self.ratio), MIB / PACKS)
        return turn

    def land(self, turn: Turn) -> None:
        way = turn.pack and self.ratio < 0.9
        self.now += MIB / self.rates[way]
        self.sent[way] += 1
        self.trials.landed(turn, MIB)

    @property
    def packs(self) -> bool:
        return self.trials.next().pack


SLOW = (12 * MIB, 36 * MIB)
FAST = (700 * MIB, 250 * MIB)


def test_a_slow_link_packs() -> None:
    line = Line(*SLOW)
    line.copy(200)
    assert line.packs
    assert line.sent[False] <= PIECES + 1


def test_a_fast_link_tries_little_and_goes_on_as_it_is() -> None:
    line = Line(*FAST)
    line.copy(4096)
    assert not line.packs
    assert 0 < line.sent[True] <= PIECES // 2
    lost_s = line.now - 4096 * MIB / FAST[0]
    assert lost_s < 0.01 * line.now


def test_on_a_link_faster_than_packing_nothing_is_tried() -> None:
    line = Line(2.1 * PACKS, PACKS)
    line.copy(4096)
    assert not line.sent[True]


def test_what_does_not_get_smaller_is_never_tried() -> None:
    line = Line(*SLOW, ratio=1.01)
    looks = 0
    for _ in range(1000):
        turn = line.take()
        assert not turn.pack
        looks += turn.look
        line.land(turn)
    assert 0 < looks <= line.now + 1


def test_data_that_get_smaller_later_are_found() -> None:
    line = Line(*SLOW, ratio=1.01)
    line.copy(100)
    line.ratio = 0.3
    line.copy(100)
    assert line.packs


def test_a_gain_of_little_is_not_worth_the_work() -> None:
    line = Line(100 * MIB, 105 * MIB)
    line.copy(500)
    assert not line.packs


def test_a_link_that_gets_slow_packs_after_a_while() -> None:
    line = Line(*FAST)
    line.copy(1000)
    line.rates = dict(zip((False, True), SLOW, strict=True))
    line.copy_for(2 * FIRST_S)
    assert line.packs


def test_a_link_that_gets_fast_packs_no_more() -> None:
    line = Line(*SLOW)
    line.copy(100)
    assert line.packs
    line.rates = dict(zip((False, True), FAST, strict=True))
    line.copy_for(2 * FIRST_S)
    assert not line.packs


def test_the_longer_nothing_changes_the_rarer_it_is_tried() -> None:
    line = Line(*FAST)
    line.copy_for(1)
    first = line.sent[True]
    line.copy_for(LONGEST_S)
    few = line.sent[True] - first
    assert few * MIB / FAST[1] < 0.02 * LONGEST_S


def test_a_rate_that_is_set_is_another_link() -> None:
    line = Line(*FAST)
    line.copy(500)
    assert not line.packs
    line.rates = dict(zip((False, True), SLOW, strict=True))
    line.pace.set(12 * MIB)
    line.copy(100)
    assert line.packs


def test_a_pause_is_not_taken_for_a_slow_link() -> None:
    line = Line(*FAST)
    line.copy(PIECES // 2)
    line.pace.set(0)
    line.now += 3600
    line.pace.set(None)
    line.copy(500)
    assert not line.packs


def test_pieces_of_the_other_way_that_are_still_under_way_are_waited_for() -> None:
    line = Line(*SLOW)
    queued = [line.take() for _ in range(8)]
    line.copy(PIECES + 1)
    assert line.trials.next().pack
    line.rates[True] = FAST[0]  # they seem to land at once, as long as the link is busy with the others
    line.copy(4 * PIECES)
    assert line.trials._before is not None  # still on trial
    for turn in queued:
        line.land(turn)
    line.rates[True] = SLOW[0] / 2
    line.copy(2 * PIECES)
    assert not line.packs


def test_what_does_not_get_through_is_tried_again_after_a_while() -> None:
    line = Line(*SLOW)
    line.copy(100)
    assert line.trials.failed(for_good=False)
    assert not line.trials.failed(for_good=False)  # the other connection says it, too
    assert not line.packs
    line.copy_for(2 * FIRST_S + 5)
    assert line.packs


def test_what_is_refused_is_not_tried_again() -> None:
    line = Line(*SLOW)
    line.copy(100)
    assert line.trials.failed(for_good=True)
    line.trials.lost()
    line.copy_for(2 * LONGEST_S)
    assert not line.packs
