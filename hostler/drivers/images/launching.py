"""Starting nbdkit so that it outlives whoever starts it, with a listening socket and nothing else of ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hostler.drivers import processes as process

#: The outer shell leaves nbdkit behind as an orphan and prints its id. Given a listening socket, nbdkit asks
#: to be ended with the *thread* that is its parent, whatever its options say: so it waits until that is gone.
_LEAVE = 'wait=$1; shift; exec 3<&0 </dev/null; /bin/sh -c "$wait" $$ "$@" >&2 & echo $!'
#: systemd's protocol for handing a socket over wants the process' own id, which only the shell knows.
_WAIT = 'while kill -0 $0 2>/dev/null; do sleep 0.01; done; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'


def launch(
    command: Sequence[str], listening: int, log: Path, environment: Mapping[str, str]
) -> process.Process | None:
    """Start *command* with the socket *listening*; return its process, None if it is gone already."""
    complaints = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        left = subprocess.run(
            ["/bin/sh", "-c", _LEAVE, "sh", _WAIT, *command],
            stdin=listening,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
            close_fds=True,
            start_new_session=True,
            cwd="/",
            check=True,
        )
    finally:
        os.close(complaints)
    return process.Process.of(int(left.stdout))
