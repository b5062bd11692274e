"""Only what the lab itself started is ever ended."""

import json
import os
from pathlib import Path

import pytest

from lab.process import Daemon, LabError, end_marked, marked, run, start_time, wait_until


def test_a_daemon_is_found_by_a_later_command_and_ended(tmp_path: Path) -> None:
    pid = Daemon(tmp_path / "record.json").start(["sleep", "60"], tmp_path / "log")

    later = Daemon(tmp_path / "record.json")
    assert later.pid == pid
    later.end()

    assert later.pid is None
    assert start_time(pid) is None


def test_a_process_that_got_the_pid_of_a_dead_daemon_is_spared(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    daemon = Daemon(record)
    pid = daemon.start(["sleep", "60"], tmp_path / "log")
    truth = record.read_text()
    record.write_text(json.dumps({**json.loads(truth), "start_time": 1}))

    daemon.end()
    assert start_time(pid) is not None

    record.write_text(truth)
    daemon.end()
    assert start_time(pid) is None


def test_a_daemon_that_heeds_no_signal_is_killed(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "record.json")
    daemon.start(["busybox", "sh", "-c", "trap '' TERM; echo deaf; sleep 60"], tmp_path / "log")
    wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), "the process to be deaf")

    daemon.end(timeout_s=0.1)

    assert daemon.pid is None


def test_ending_twice_is_ending_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "record.json")
    daemon.start(["sleep", "60"], tmp_path / "log")

    daemon.end()
    daemon.end()

    assert daemon.pid is None


def test_a_failed_command_says_why() -> None:
    with pytest.raises(LabError, match=r"exit code 2: .*nowhere"):
        run(["ls", "/nowhere"])


def test_waiting_in_vain_names_what_was_waited_for() -> None:
    with pytest.raises(LabError, match="in vain: the moon"):
        wait_until(lambda: False, "the moon", timeout_s=0.05)


def test_the_start_time_of_a_process_that_is_not_there_is_none() -> None:
    assert start_time(os.getpid()) is not None
    assert start_time(2**22 + 1) is None


def test_whatever_has_the_mark_is_ended_and_nothing_else(tmp_path: Path) -> None:
    marks = {"ours": f"MARK={tmp_path}", "another's": f"MARK={tmp_path}/2"}
    daemons = {whose: Daemon(tmp_path / f"{whose}.json") for whose in marks}
    pids = {
        whose: daemon.start(["env", marks[whose], "sleep", "60"], tmp_path / "log")
        for whose, daemon in daemons.items()
    }
    wait_until(lambda: marked(marks["another's"]) == [pids["another's"]], "the mark")
    wait_until(lambda: marked(marks["ours"]) == [pids["ours"]], "the mark")
    daemons["ours"].record.unlink()  # whoever started it was killed before that was written down

    end_marked(marks["ours"])

    assert start_time(pids["ours"]) is None
    assert daemons["another's"].pid == pids["another's"]
    daemons["another's"].end()
