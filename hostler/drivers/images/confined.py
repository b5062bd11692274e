"""The room that a receiver's process gets: its files, and nothing else that it could write to.

A mount namespace in which its files are bound under :data:`ROOM`, each at its own path below; a network namespace
without a network, so that the socket that it is handed is all it has; a user of its own without a capability. A block
device gets a node of its own in the room, which that user may open: the one that everybody sees stays as it is.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Where its files are for the process; the rest of the machine it sees as any user does.
ROOM = "/mnt"

#: Everything is done in one process, exec after exec: whoever started it knows its number. The room is furnished
#: in the first argument's directory and moved: what it would hide may be among what is put into it. The way to its
#: files is open to the process, whatever the worker's umask.
_ENTER = """\
set -e
yard=$1 room=$2 uid=$3
shift 3
mask=$(umask)
umask 022
mount -t tmpfs -o mode=0755,nosuid,noexec tmpfs "$yard"
while [ "$1" != -- ]; do
    to=$yard$2
    mkdir -p "${to%/*}"
    case $1 in
    directory) mkdir -p "$to"; mount --bind "$3" "$to" ;;
    file) : >"$to"; mount --bind "$3" "$to" ;;
    device) mknod -m 0600 "$to" b "${3%:*}" "${3#*:}"; chown "$uid" "$to" ;;
    esac
    shift 3
done
shift
umask "$mask"
mount -o remount,ro "$yard"
mount --move "$yard" "$room"
for open in /tmp /var/tmp /dev/shm; do
    [ ! -d "$open" ] || { mount --bind "$open" "$open"; mount -o remount,bind,ro "$open"; }
done
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""
_UNSHARE = ["unshare", "--mount", "--net", "--ipc", "--uts", "--"]


def obstacle() -> str | None:
    """Return why this machine cannot confine a process; None if it can."""
    program = [*_UNSHARE, "setpriv", "--no-new-privs", "mount", "-t", "tmpfs", "tmpfs", ROOM]
    try:
        done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else None


def command(argv: Sequence[str], files: Mapping[Path, Path], yard: Path, uid: int) -> list[str]:
    """Return the command that runs *argv* as *uid*.

    *files*: where :func:`inside` finds each, and what it is: a file, a directory, a block device, or a link to one.
    *yard* is an empty directory, and stays one.
    """
    words = [word for name, source in files.items() for word in _bound(name, source, uid)]
    return [*_UNSHARE, "/bin/sh", "-c", _ENTER, "sh", str(yard), ROOM, str(uid), *words, "--", *argv]


def inside(path: Path) -> Path:
    """Return where the process finds one of its files."""
    return Path(ROOM + str(path))


def _bound(name: Path, source: Path, uid: int) -> tuple[str, str, str]:
    """Let the process own a file or directory of ours; return what brings it into the room."""
    found = source.stat()
    if stat.S_ISBLK(found.st_mode):
        return "device", str(name), f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    os.chown(source, uid, -1)
    return "directory" if stat.S_ISDIR(found.st_mode) else "file", str(name), str(source)
