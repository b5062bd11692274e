"""Where the lab's things lie."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
#: Holds the labs and the cache of the guest's kernel; the same in every host.
BASE = Path(os.environ.get("HOSTLER_LAB", "/var/tmp/hostler-lab"))
CACHE = BASE / "cache"

#: The whole environment of what runs in a host: nothing of the caller's own gets in.
HOST_ENVIRONMENT = {
    "PATH": f"{CHECKOUT}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LIBVIRT_DEFAULT_URI": "qemu:///system",
    "PYTHONUNBUFFERED": "1",
}
