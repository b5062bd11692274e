"""Moving a stopped server to another host."""

from __future__ import annotations

from taskflow.patterns import linear_flow

from hostler.tasks.base import DEST, SOURCE
from hostler.tasks.checks import CheckDestination, InspectInstance, ReportDestination, ReportSource
from hostler.tasks.claims import ClaimResources
from hostler.tasks.domain import UndefineDomain
from hostler.tasks.files import RenameInstanceDir
from hostler.tasks.guest import FinishMigration, HandOver, StartGuest
from hostler.tasks.images import CopyImages, OpenReceiver, VerifyImages
from hostler.tasks.notify import Notify, NotifyUsageExists
from hostler.tasks.ports import MigratePorts, ReservePorts
from hostler.tasks.power import PowerOff
from hostler.tasks.quotas import ReserveQuota
from hostler.tasks.shared_storage import AnswerProof, ForgetProof, OfferProof, ProveShared
from hostler.tasks.states import EnterState
from hostler.tasks.volumes import ConnectVolumes, DisconnectVolumes, ReserveVolumes


def cold_migration() -> linear_flow.Flow:
    """Move a server to another host; until the hand-over every step is undone when a later one fails.

    1. source: read what has to move
    2. dest: look, claim, and open the door for the images
    3. source: shut the guest down, take its definition away, set its files aside, send them
    4. dest: verify what arrived, connect it, create the guest without letting it run
    5. dest: hand over; start the guest
    """
    return linear_flow.Flow("cold_migration").add(
        InspectInstance(),
        OfferProof(),
        NotifyUsageExists(),
        Notify("resize.prep.start", DEST),
        AnswerProof(),
        CheckDestination(),
        ReserveQuota(),
        ClaimResources(),
        ReservePorts(),
        ReserveVolumes(),
        OpenReceiver(),
        Notify("resize.prep.end", DEST),
        ProveShared(),
        Notify("resize.start", SOURCE),
        EnterState(SOURCE, ("resize_prep", "resize_migrating"), ("pre-migrating", "migrating")),
        PowerOff(),
        UndefineDomain(),
        DisconnectVolumes(),
        RenameInstanceDir(),
        CopyImages(),
        Notify("resize.end", SOURCE),
        EnterState(SOURCE, ("resize_migrating", "resize_migrated"), ("migrating", "post-migrating")),
        ForgetProof(),
        VerifyImages(),
        MigratePorts(),
        ConnectVolumes(),
        Notify("finish_resize.start", DEST),
        EnterState(DEST, ("resize_migrated", "resize_finish"), ("post-migrating", "post-migrating")),
        FinishMigration(),
        HandOver(),
        StartGuest(),
        Notify("finish_resize.end", DEST),
    )


def dry_run() -> linear_flow.Flow:
    """Look at both hosts as a migration would, and report; nothing is changed but for tokens, which are removed."""
    return linear_flow.Flow("dry_run").add(
        ReportSource(),
        OfferProof(rebind={"inventory": "source_report"}),
        AnswerProof(),
        ReportDestination(),
        ProveShared(rebind={"inventory": "source_report"}),
        ForgetProof(),
    )
