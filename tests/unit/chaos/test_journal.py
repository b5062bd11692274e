"""What the guests' consoles prove, and what they give away."""

from __future__ import annotations

from typing import Any

from lab import Guest
from tests.chaos.journal import Journal


class Console:
    """A host, as far as a journal asks."""

    def __init__(self, name: str, text: str = "") -> None:
        self.name = name
        self.text = text

    def console(self, _guest: str) -> str:
        return self.text


GUEST = Guest("web1", marker="mark")


def boot(number: int, lines: int, *acknowledged: int, bad: int = 0, marker: str = "mark") -> str:
    head = f"GUEST: MARKER={marker} BOOTS={number} DIRTY=no\nGUEST: JOURNAL BOOTS={number} LINES={lines} BAD={bad}\n"
    return head + "".join(f"GUEST: ACK {line} {number}\r\n" for line in acknowledged)


def problems(*hosts: Any, journal: Journal | None = None) -> list[str]:
    return (journal or Journal(GUEST)).problems(hosts)


def test_a_move_that_keeps_every_acknowledged_line_is_sound() -> None:
    kvm1 = Console("kvm1", boot(1, 0, 1, 2, 3) + "GUEST: AC" + boot(3, 9, 10))
    kvm2 = Console("kvm2", boot(2, 4, 5, 6, 7, 8))

    assert problems(kvm1, kvm2) == []


def test_a_copy_that_lacks_an_acknowledged_line_is_found() -> None:
    kvm1, kvm2 = Console("kvm1", boot(1, 0, 1, 2, 3)), Console("kvm2", boot(2, 2))

    assert problems(kvm1, kvm2) == ["web1: boot 2 on kvm2 found 2 lines, not 3"]


def test_two_copies_that_ran_are_found() -> None:
    kvm1, kvm2 = Console("kvm1", boot(1, 0, 1) + boot(2, 1, 2)), Console("kvm2", boot(2, 1, 2))

    assert problems(kvm1, kvm2) == ["web1: boot 2 happened on kvm1 and on kvm2"]


def test_a_damaged_journal_and_another_ones_disk_are_found() -> None:
    kvm1 = Console("kvm1", boot(1, 4, bad=1) + boot(2, 4, marker="other"))

    assert problems(kvm1) == [
        "web1: a marker that is not its own: other",
        "web1: boot 1 on kvm1 found 1 wrong lines",
    ]


def test_only_what_an_operator_dropped_may_be_missing() -> None:
    kvm1, kvm2 = Console("kvm1", boot(1, 0, 1, 2)), Console("kvm2", boot(2, 2, 3, 4))
    journal = Journal(GUEST)
    journal.drop(kvm2, kvm1)  # type: ignore[arg-type]
    kvm1.text += boot(2, 2, 3)

    assert problems(kvm1, kvm2, journal=journal) == []
    kvm2.text += boot(3, 2)
    assert problems(kvm1, kvm2, journal=journal) == ["web1: boot 3 on kvm2 found 2 lines, not 3"]
