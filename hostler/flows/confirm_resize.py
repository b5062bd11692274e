"""Giving up the way back."""

from __future__ import annotations

from taskflow.patterns import linear_flow

from hostler.tasks.base import DEST, SOURCE
from hostler.tasks.claims import DropSourceClaim
from hostler.tasks.files import RemoveSetAside, SettleFiles
from hostler.tasks.guest import ProveGuest, SettleGuest
from hostler.tasks.notify import Notify


def confirm_resize() -> linear_flow.Flow:
    """Remove what was set aside on the source, once the destination has proven that it has the server.

    1. dest: see that the guest is there and well
    2. source: see that the proof is fresh; remove the set-aside files and the claim
    3. dest: make the server an ordinary one
    """
    return linear_flow.Flow("confirm_resize").add(
        ProveGuest(),
        Notify("resize.confirm.start", SOURCE),
        RemoveSetAside(),
        DropSourceClaim(),
        SettleFiles(),
        SettleGuest(),
        Notify("resize.confirm.end", DEST),
    )
