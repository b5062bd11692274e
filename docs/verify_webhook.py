"""How a listener verifies what hostler's webhook tells it."""

import hashlib
import hmac
import time

MAX_AGE_S = 300


def is_genuine(secret: bytes, headers: dict[str, str], body: bytes) -> bool:
    """Tell whether hostler sent this, and lately; *secret* is the file's contents without the line's end."""
    timestamp = headers["Hostler-Timestamp"]
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > MAX_AGE_S:
        return False
    signed = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return hmac.compare_digest(f"sha256={signed.hexdigest()}", headers["Hostler-Signature"])
