"""The shape of DESIGN's cold migration, for tests that draw or watch one."""

from __future__ import annotations

from hostler.flows.shape import DEST, SOURCE, Step

_COLD_MIGRATION = [
    (
        "InspectInstance",
        SOURCE,
        "Read the domain, its disks and everything that moves with it.",
        "nothing; it only reads.",
    ),
    ("NotifyUsageExists", DEST, "Tell that the server exists.", "nothing; a notification is not taken back."),
    ("NotifyPrepStart", DEST, "Tell that the preparation begins.", "telling of the error."),
    ("CheckDestination", DEST, "See that the host can take the server.", "nothing; it only reads."),
    ("ClaimResources", DEST, "Claim CPUs, memory and disk.", "dropping the claim there and then."),
    (
        "OpenReceiver",
        DEST,
        "Make the part directory and start the image receiver.",
        "stopping it, and removing only what it made.",
    ),
    (
        "NotifyPrepEnd",
        DEST,
        "Tell that the preparation is done.",
        "nothing; a notification is not taken back.",
    ),
    ("SetResizeMigrating", SOURCE, "Set the task state to resize_migrating.", "setting the state back."),
    (
        "PowerOff",
        SOURCE,
        "Shut the guest down cleanly; pull the plug after shutdown_timeout seconds.",
        "starting the guest again, if it was running.",
    ),
    (
        "UndefineDomain",
        SOURCE,
        "Save the definition and undefine the domain.",
        "defining it again, all of it.",
    ),
    ("DisconnectVolumes", SOURCE, "Disconnect the volumes.", "reconnecting exactly those, in reverse order."),
    ("RenameInstanceDir", SOURCE, "Set the server's files aside.", "putting them back."),
    ("CopyImages", SOURCE, "Send the image files to the destination.", "stopping the bytes."),
    ("SetResizeMigrated", SOURCE, "Set the task state to resize_migrated.", "setting the state back."),
    (
        "VerifyImages",
        DEST,
        "Read what lies on the disk and rename it into place.",
        "moving it back to the part directory.",
    ),
    ("MigratePorts", DEST, "Bind each port to the destination.", "putting each binding back."),
    ("ConnectVolumes", DEST, "Connect the volumes.", "disconnecting them."),
    ("SetResizeFinish", DEST, "Set the task state to resize_finish.", "setting the state back."),
    (
        "FinishMigration",
        DEST,
        "Create the guest paused and transient.",
        "destroying that guest, which is ours by its metadata.",
    ),
    (
        "HandOver",
        DEST,
        "Give the server to the destination in one compare-and-swap.",
        "nothing; from here forward only.",
    ),
    (
        "StartGuest",
        DEST,
        "Define the domain and let the guest run.",
        "nothing; only revert_resize leads back.",
    ),
    (
        "NotifyFinishEnd",
        DEST,
        "Tell that the server has arrived.",
        "nothing; a notification is not taken back.",
    ),
]


def cold_migration() -> list[Step]:
    """Return the steps of a cold migration."""
    return [
        Step(name, where, does, undo, point_of_no_return=name == "HandOver")
        for name, where, does, undo in _COLD_MIGRATION
    ]


def confirm_resize() -> list[Step]:
    """Return the steps of a confirmation."""
    return [
        Step("ProveGuest", DEST, "See that the guest is there and sound.", "nothing; it only reads."),
        Step(
            "RemoveOld", SOURCE, "Remove what was set aside.", "nothing; it is gone.", point_of_no_return=True
        ),
    ]


def revert_resize() -> list[Step]:
    """Return the steps of a way back."""
    return [
        Step("StopGuest", DEST, "Shut the guest down.", "starting it again."),
        Step("HandBack", SOURCE, "Give the server back.", "nothing.", point_of_no_return=True),
    ]
