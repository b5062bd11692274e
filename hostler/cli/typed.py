"""What is typed, and whether the records could hold it."""

from __future__ import annotations

import argparse

from hostler.records import instances

#: Letters of a name or a reason.
LONGEST = 255


def storable(text: str) -> str:
    """Return what was typed as a name or a reason; for argparse."""
    if not text.strip() or len(text) > LONGEST or not instances.storable(text):
        raise argparse.ArgumentTypeError(f"1 to {LONGEST} letters are needed, and not only spaces")
    return text
