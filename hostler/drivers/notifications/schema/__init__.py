"""What every notification looks like: JSON Schemas, draft 2020-12. The tests and the manual's page are made of them."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

#: The message, then the payloads: of every event, of ``exists``, and of the ``.error`` events.
NAMES = ("notification", "payload", "exists", "error")


def read(name: str) -> dict[str, Any]:
    """Return the schema of that name."""
    text = resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
