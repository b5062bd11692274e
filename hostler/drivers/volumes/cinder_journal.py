"""What is written down of Cinder's attachments: by which one each host has, or had, a volume."""

from __future__ import annotations

from hostler.drivers.volumes.attachments import Attachment
from hostler.objects import Volume
from hostler.records.fence import FencedRecords, Journal
from hostler.records.models import JournalEntry

#: The name under which the journal keeps it.
JOURNAL = "cinder"


def stays(records: FencedRecords) -> bool:
    """Tell whether the server is resized where it is: it keeps its attachment."""
    home, dest = records.ends()
    return home == dest


def key_of(volume: Volume, host: str) -> str:
    """Return the key of what is written of a volume and a host."""
    return f"{volume.serial} {host}"


def entry_of(records: FencedRecords, volume: Volume, host: str) -> JournalEntry | None:
    """Return what is written of a volume and a host, also if it was undone."""
    return records.journal(JOURNAL).all().get(key_of(volume, host))


def own_of(mine: list[Attachment], entry: JournalEntry | None) -> Attachment | None:
    """Return which of a server's attachments an entry is about; None if that is gone."""
    return next((one for one in mine if entry and one.id == entry.data["attachment"]), None)


def is_ours(journal: Journal, volume: Volume, attachment: Attachment) -> bool:
    """Tell whether an attachment of the server's is one by which this migration has given it to a host."""
    return any(
        entry.data.get("attachment") == attachment.id
        for key, entry in journal.all().items()
        if key.startswith(f"{volume.serial} ")
    )
