"""What ``--format ndjson`` prints: a JSON Schema, draft 2020-12. The tests and the manual's page are made of it."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def read(name: str = "watch") -> dict[str, Any]:
    """Return the schema of that name."""
    text = resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
