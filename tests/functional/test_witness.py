"""The witness of the chaos: it must not overlook a server that runs twice, nor cry when one of two is paused."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from lab.process import wait_until
from tests.chaos.witness import Witness

#: Named as QEMU names itself and its virtual CPU, which either computes or sleeps.
QEMU = """
import ctypes, sys, threading, time

def named(name):
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)

def cpu():
    named("CPU 0/TCG")
    while sys.argv[1] == "running":
        sum(range(1000))
    time.sleep(600)

named("qemu-system-x86")
threading.Thread(target=cpu, daemon=True).start()
print("up", flush=True)
time.sleep(600)
"""


@contextmanager
def qemu(state: str, server: str) -> Iterator[None]:
    words = [sys.executable, "-c", QEMU, state, "-uuid", server]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_a_server_that_executes_twice_is_seen() -> None:
    server = str(uuid.uuid4())

    with Witness({server}) as witness, qemu("running", server), qemu("running", server):
        wait_until(lambda: bool(witness.violations), "the witness to cry")

    assert witness.violations[0].startswith(f"{server} executes twice")


def test_a_paused_guest_beside_the_running_one_is_no_second_copy() -> None:
    server, other = str(uuid.uuid4()), str(uuid.uuid4())

    with (
        Witness({server, other}) as witness,
        qemu("running", server),
        qemu("paused", server),
        qemu("running", other),
    ):
        before = witness.looks
        wait_until(lambda: witness.looks > before + 10, "ten looks")
        seen = len(witness.running(server)), len(witness.running(other))

    assert (seen, witness.violations) == ((2, 1), [])
