"""What only the real receiver can be asked: its process, its key, its socket."""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.images import listener, tls
from hostler.drivers.images.receiver import NbdReceiver
from hostler.drivers.images.sender import NbdSender
from hostler.drivers.processes import Process

from .conftest import LOCALHOST, MIB, Pair, dense, free_ports, make_pair


@pytest.fixture
def open_pair(nbd_pair: Pair) -> Pair:
    nbd_pair.open(nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 2)))
    return nbd_pair


def test_the_key_is_on_no_command_line_and_in_no_log(nbd_pair: Pair) -> None:
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 4))
    address = nbd_pair.open(disk)
    seen: list[bytes] = []

    def look() -> None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(entry.read_bytes() + (entry.parent / "environ").read_bytes())
            except OSError:
                continue

    nbd_pair.send(address, look)
    assert seen
    assert not any(address.key.encode() in words for words in seen)
    assert address.key not in repr(address)
    holders = [
        p for p in nbd_pair.base.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size < MIB
    ]
    holders = [path for path in holders if address.key.encode() in path.read_bytes()]
    assert [path.name for path in holders] == ["key.psk"]


def test_what_is_secret_can_be_read_by_its_owner_only(open_pair: Pair) -> None:
    home = open_pair.base / "state" / open_pair.migration
    for name in ("key.psk", "receiver.json", "receiver.log", "0.manifest"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    exports = open_pair.base / "run" / open_pair.migration / "exports"
    assert stat.S_IMODE(exports.stat().st_mode) == 0o700


def test_the_senders_key_file_is_gone_after_a_copy(nbd_pair: Pair) -> None:
    nbd_pair.send(nbd_pair.open(nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 1))))
    assert [path.name for path in (nbd_pair.base / "run-source").iterdir()] == ["boot"]


def test_it_outlives_the_thread_that_started_it(nbd_pair: Pair) -> None:
    disk = nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 1))
    thread = threading.Thread(target=nbd_pair.open, args=(disk,))
    thread.start()
    thread.join()
    process = nbd_pair.nbdkit()
    with pytest.raises(TimeoutError):
        wait_gone(process, 0.3)


def wait_gone(process: Process, seconds: float) -> None:
    fd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise TimeoutError
    finally:
        os.close(fd)


def test_it_inherits_no_lock(nbd_pair: Pair) -> None:
    lock = nbd_pair.base / "lock"
    fd = os.open(lock, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(fd, True)
    nbd_pair.open(nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 1)))
    links = [str(link.readlink()) for link in Path(f"/proc/{nbd_pair.nbdkit().pid}/fd").iterdir()]
    os.close(fd)
    assert str(lock) not in links


def test_closing_sees_the_process_gone(open_pair: Pair) -> None:
    process = open_pair.nbdkit()
    open_pair.receiver.close(open_pair.migration)
    assert not process.alive
    assert not (open_pair.base / "run" / open_pair.migration).exists()


def test_a_process_that_was_started_but_not_recorded_is_ended_too(open_pair: Pair) -> None:
    process = open_pair.nbdkit()
    home = open_pair.base / "state" / open_pair.migration
    (home / "receiver.json").unlink()
    open_pair.receiver.close(open_pair.migration)
    assert not process.alive


def test_another_process_of_that_number_is_left_alone() -> None:
    other = subprocess.Popen(["/bin/sleep", "60"])
    try:
        found = Process.of(other.pid)
        assert found
        Process(found.pid, found.started - 1, found.boot).end()
        Process(found.pid, found.started, "another boot").end()
        assert found.alive
        found.end()
        assert not found.alive
    finally:
        other.kill()
        other.wait()


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostler.drivers.processes.TERM_PATIENCE_S", 0.2)
    command = ["/bin/sh", "-c", "trap '' TERM; echo; read never"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout
        stubborn.stdout.readline()
        found = Process.of(stubborn.pid)
        assert found
        found.end()
        assert stubborn.wait() == -9


def test_a_port_that_somebody_else_holds_is_passed_over(nbd_pair: Pair) -> None:
    first = nbd_pair.receiver._ports[0]
    with socket.create_server((LOCALHOST, first)):
        address = nbd_pair.open(nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 1)))
    assert address.port == first + 1


def test_it_does_not_come_back_at_another_port(open_pair: Pair) -> None:
    port = open_pair.receiver.restore() and open_pair.receiver._recorded(open_pair.migration).port  # type: ignore[union-attr]
    open_pair.kill_receiver()
    with (
        socket.create_server((LOCALHOST, port)),
        pytest.raises(errors.ReceiverUnavailable, match="Address already in use"),
    ):
        open_pair.receiver.restore()
    assert open_pair.receiver.restore() == [open_pair.migration]


def test_what_nbdkit_complains_about_is_in_the_error(tmp_path: Path) -> None:
    program = tmp_path / "nbdkit"
    program.write_text("#!/bin/sh\necho 'nbdkit: error: no such plugin' >&2\nexit 1\n")
    program.chmod(0o755)
    receiver = NbdReceiver(tmp_path / "state", tmp_path / "run", LOCALHOST, free_ports(2), str(program))
    with pytest.raises(errors.ReceiverUnavailable, match="nbdkit: error: no such plugin"):
        receiver.open("00000000-0000-4000-8000-000000000001", [], LOCALHOST)


def test_a_missing_nbdkit_is_named(tmp_path: Path) -> None:
    receiver = NbdReceiver(tmp_path / "state", tmp_path / "run", LOCALHOST, free_ports(2), "/nowhere/nbdkit")
    with pytest.raises(errors.ReceiverUnavailable, match="/nowhere/nbdkit"):
        receiver.open("00000000-0000-4000-8000-000000000001", [], LOCALHOST)


def test_a_migration_that_is_no_uuid_is_no_directory(nbd_pair: Pair) -> None:
    with pytest.raises(ValueError, match="UUID"):
        nbd_pair.receiver.close("../../etc")


@pytest.mark.parametrize(("address", "stranger"), [("127.0.0.1", "127.0.0.2"), ("::1", "fd00::1")])
def test_the_kernel_admits_the_peer_only(address: str, stranger: str) -> None:
    (first, _) = free_ports(1)
    for peer, admitted in ((address, True), (stranger, False)):
        try:
            server = listener.listen(address, first, peer)
        except OSError as error:
            pytest.skip(f"no {address} here: {error}")
        with server, socket.socket(server.family) as client:
            client.settimeout(0.3)
            if admitted:
                client.connect((address, first))
                continue
            with pytest.raises(TimeoutError):
                client.connect((address, first))


def test_a_peer_of_another_family_is_refused() -> None:
    with pytest.raises(OSError, match="one is IPv4, the other IPv6"):
        listener.listen("127.0.0.1", 1, "::1")


def test_what_the_administrator_says_about_ciphers_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUTLS_SYSTEM_PRIORITY_FILE", "/etc/ours")
    assert tls.prepare_environment(tmp_path) == "/etc/ours"
    assert tls.child_environment(tmp_path)["GNUTLS_SYSTEM_PRIORITY_FILE"] == "/etc/ours"
    monkeypatch.delenv("GNUTLS_SYSTEM_PRIORITY_FILE")
    assert "AES-256-GCM" in Path(tls.prepare_environment(tmp_path)).read_text()


# -- unencrypted, where both ends say so -------------------------------------------------------------------


def test_plain_images_need_both_ends_to_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair = make_pair("nbd", tmp_path)
    pair.receiver = NbdReceiver(tmp_path / "state", tmp_path / "run", LOCALHOST, free_ports(2), encrypt=False)
    disk = pair.export("0", dense(tmp_path / "src" / "disk", 2))
    address = pair.open(disk)
    try:
        assert address.key == ""
        with pytest.raises(errors.ImageTransferError, match=r"set \[images\] encrypt alike on both hosts"):
            pair.send(address)
        assert Path(disk.part).stat().st_blocks == 0
        pair.sender = NbdSender(tmp_path / "run-source", encrypt=False)
        (digest,) = pair.send(address)
    finally:
        pair.receiver.close(pair.migration)
    pair.verify(disk, digest)
    assert caplog.text.count("unencrypted: [images] encrypt is false") >= 2


def test_an_encrypted_receiver_takes_nothing_in_plain(nbd_pair: Pair) -> None:
    address = nbd_pair.open(nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 2)))
    sender = NbdSender(nbd_pair.base / "run-source", encrypt=False)
    with pytest.raises(errors.ImageTransferError, match="no connection"):
        sender.send(replace(address, key=""), lambda _: None, lambda: None, 0.5)
    assert Path(address.exports[0].part).stat().st_blocks == 0
