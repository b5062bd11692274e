"""The room that a receiver's process gets: its files, and nothing else that it could write to.

A mount namespace in which its files are bound under :data:`ROOM`, each at its own path below; a network namespace
without a network, so that the socket it is handed is all it has; a user of its own without a capability.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

#: Where its files are for the process; the rest of the machine it sees as any user does.
ROOM = "/mnt"

#: Everything is done in one process, exec after exec: whoever started it knows its number.
_ENTER = """\
set -e
room=$1 uid=$2 groups=$3
shift 3
mount -t tmpfs -o mode=0755,nosuid,noexec tmpfs "$room"
while [ "$1" != -- ]; do
    mkdir -p "$room${1%/*}"
    if [ -d "$1" ]; then mkdir -p "$room$1"; else : >"$room$1"; fi
    mount --bind "$1" "$room$1"
    shift
done
shift
mount -o remount,ro "$room"
for open in /tmp /var/tmp /dev/shm; do
    [ ! -d "$open" ] || { mount --bind "$open" "$open"; mount -o remount,bind,ro "$open"; }
done
[ -n "$groups" ] && set -- --groups "$groups" "$@" || set -- --clear-groups "$@"
exec setpriv --reuid "$uid" --regid "$uid" --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


def command(argv: Sequence[str], files: Sequence[Path], uid: int) -> list[str]:
    """Return the command that runs *argv* as *uid*, with *files* (directories, too) where :func:`inside` says."""
    groups = ",".join(sorted({str(group) for group in map(_group, files) if group is not None}))
    enter = ["unshare", "--mount", "--net", "--ipc", "--uts", "--", "/bin/sh", "-c", _ENTER, "sh"]
    return [*enter, ROOM, str(uid), groups, *map(str, files), "--", *argv]


def inside(path: Path) -> Path:
    """Return where the process finds one of its files."""
    return Path(ROOM + str(path))


def give(path: Path, uid: int) -> None:
    """Let the process own a file or directory of ours; a device stays whose it is."""
    if not stat.S_ISBLK(path.stat().st_mode):
        os.chown(path, uid, -1)


def _group(path: Path) -> int | None:
    """Return the group by which a device is written to; the process gets it."""
    found = path.stat()
    return found.st_gid if stat.S_ISBLK(found.st_mode) else None
