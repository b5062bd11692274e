"""Going back."""

from __future__ import annotations

from taskflow.patterns import linear_flow

from hostler.tasks.base import DEST, SOURCE
from hostler.tasks.checks import CheckGuest, ProveWayBack
from hostler.tasks.claims import ClaimResources
from hostler.tasks.domain import UndefineDomain, UndefineGuest
from hostler.tasks.files import RenameInstanceDir, SetGuestAside
from hostler.tasks.guest import FinishMigration
from hostler.tasks.hand_back import FinishRevert, HandBack
from hostler.tasks.images import OpenReceiver, VerifyImages
from hostler.tasks.notify import Notify, NotifyUsageExists
from hostler.tasks.ports import MigratePorts
from hostler.tasks.power import PowerOff, StopGuest
from hostler.tasks.undo import Undo
from hostler.tasks.volumes import DisconnectVolumes, ReleaseVolumes


def revert_resize() -> linear_flow.Flow:
    """Bring a server that was moved back to what the source has set aside.

    Until the hand-back every step is undone when a later one fails, and the guest runs on the destination
    again; behind it each step is the undo of one of the way out.

    1. source: see that the way back is whole
    2. dest: shut the guest down, take its definition away, set its files aside
    3. source: hand back; put everything where it was, start the guest
    4. dest: remove what is left
    5. source: make the server an ordinary one
    """
    return linear_flow.Flow("revert_resize").add(
        ProveWayBack(),
        CheckGuest(),
        NotifyUsageExists(),
        Notify("resize.revert.start", DEST),
        StopGuest(),
        UndefineGuest(),
        ReleaseVolumes(),
        SetGuestAside(),
        HandBack(),
        Undo(RenameInstanceDir()),
        Undo(MigratePorts(), SOURCE),
        Undo(DisconnectVolumes()),
        Undo(UndefineDomain()),
        Undo(PowerOff()),
        Undo(FinishMigration()),
        Undo(VerifyImages()),
        Undo(OpenReceiver()),
        Undo(ClaimResources()),
        FinishRevert(),
        Notify("resize.revert.end", SOURCE),
    )
