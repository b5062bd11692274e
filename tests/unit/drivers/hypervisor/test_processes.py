"""QEMU processes are found by what they run, and their end is seen."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from hostler.drivers.hypervisor import processes
from tests.support import LONGER_THAN_A_TEST_S

UUID = "11111111-2222-4333-8444-555555555555"


def fake_proc(tmp_path: Path, **cmdlines: list[str]) -> Path:
    for pid, words in cmdlines.items():
        (tmp_path / pid.removeprefix("p")).mkdir()
        (tmp_path / pid.removeprefix("p") / "cmdline").write_bytes(
            b"".join(w.encode() + b"\0" for w in words)
        )
    (tmp_path / "self").mkdir()
    (tmp_path / "77").mkdir()  # ended while we were looking: no command line
    return tmp_path


def test_only_a_qemu_of_that_uuid_counts(tmp_path: Path) -> None:
    proc = fake_proc(
        tmp_path,
        p10=["/usr/bin/qemu-system-x86_64", "-name", "guest=web1", "-uuid", UUID],
        p11=["/usr/libexec/qemu-kvm", "-uuid", UUID.upper()],
        p12=["/usr/bin/qemu-system-x86_64", "-uuid", "other"],
        p13=["grep", "-uuid", UUID],
        p14=["/opt/custom/emulator", "-name", "guest=web1", "-uuid", UUID],
        p15=["/usr/bin/qemu-img", "info", UUID],
        p16=[],
    )
    assert processes.qemu_pids(UUID, proc) == [10, 11, 14]


def test_the_end_of_a_process_wakes_who_waits_for_it() -> None:
    script = "import time; time.sleep(0.5)"
    child = subprocess.Popen([sys.executable, "-c", script, "-name", "guest=x", "-uuid", UUID])
    with processes.GuestProcesses(UUID) as guest:
        deadline = time.monotonic() + 10
        while not guest.alive():  # until the child has become what it runs
            assert time.monotonic() < deadline
        guest.wait(LONGER_THAN_A_TEST_S)
        assert not guest.alive()
    child.wait()
