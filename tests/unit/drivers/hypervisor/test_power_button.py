"""A press of the power button is not waited for without end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import libvirt
import pytest

from hostler.drivers.hypervisor.power_button import Presses


class Button:
    """What libvirt calls when the button is pressed."""

    def __init__(self, effect: Callable[[], object]) -> None:
        self.effect = effect
        self.presses = 0

    def shutdownFlags(self, _flags: int) -> None:  # noqa: N802 - libvirt's name
        self.presses += 1
        self.effect()


def test_a_qemu_that_does_not_answer_is_given_up_and_not_asked_twice_at_once() -> None:
    ends = threading.Event()
    button, presses = Button(ends.wait), Presses(patience_s=0.01)
    presses.press("web1", button)
    assert presses.under_way("web1")
    assert not presses.under_way("web2")
    ends.set()
    while presses.under_way("web1"):
        ends.wait(0.01)
    presses.press("web1", Button(lambda: None))
    assert not presses.under_way("web1")


def test_what_libvirt_refuses_is_raised() -> None:
    def refuse() -> None:
        raise libvirt.libvirtError("no")

    with pytest.raises(libvirt.libvirtError):
        Presses().press("web1", Button(refuse))
