"""What only the real receiver can be asked: its process, its key, its socket."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hostler import errors
from hostler.drivers.images import confined, listener, tls
from hostler.drivers.images.link import Link
from hostler.drivers.images.receiver import NbdReceiver
from hostler.drivers.images.sender import NbdSender
from hostler.drivers.processes import Process
from hostler.jobboard.doctor.look import _running

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
    assert {path.name for path in holders} == {"key.psk"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in holders)


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
    receiver = NbdReceiver(tmp_path / "state", tmp_path / "run", LOCALHOST, free_ports(2), "/bin/ls")
    with pytest.raises(errors.ReceiverUnavailable, match="unrecognized option '--foreground'"):
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
    ours = tmp_path / "ours"
    ours.write_text("[overrides]\n")
    monkeypatch.setenv("GNUTLS_SYSTEM_PRIORITY_FILE", str(ours))
    assert tls.prepare_environment(tmp_path) == str(ours)
    assert tls.child_settings(tmp_path).read_text() == "[overrides]\n"
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
        assert [one.process for one in _running(tmp_path / "run")] == [pair.nbdkit()], (
            "the doctor sees it, too"
        )
    finally:
        pair.receiver.close(pair.migration)
    assert list(_running(tmp_path / "run")) == []
    pair.verify(disk, digest)
    assert caplog.text.count("unencrypted: [images] encrypt is false") >= 2


def test_an_encrypted_receiver_takes_nothing_in_plain(nbd_pair: Pair) -> None:
    address = nbd_pair.open(nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 2)))
    sender = NbdSender(nbd_pair.base / "run-source", encrypt=False)
    with pytest.raises(errors.ImageTransferError, match="no connection"):
        sender.send(replace(address, key=""), lambda _: None, lambda: None, 0.5)
    assert Path(address.exports[0].part).stat().st_blocks == 0


# -- the room that it has ----------------------------------------------------------------------------------


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_it_is_nobody_who_may_do_anything(open_pair: Pair) -> None:
    found = status_of(open_pair.nbdkit().pid)
    assert set(found["Uid"].split()) & {"0", str(os.getuid())} == set()
    assert found["Groups"] == ""
    assert {int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {0}
    assert found["NoNewPrivs"] == "1"


def test_it_has_no_network_but_the_socket_that_it_was_handed(open_pair: Pair) -> None:
    pid = open_pair.nbdkit().pid
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert len(Path(f"/proc/{pid}/net/dev").read_text().splitlines()) == 3  # two of heading, and lo


def test_it_can_connect_to_nothing(open_pair: Pair) -> None:
    """Not even to what listens on this host's loopback."""
    program = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))))"
    with socket.create_server((LOCALHOST, 0)) as server:
        words = [sys.executable, "-c", program, LOCALHOST, str(server.getsockname()[1])]
        assert subprocess.run(words, check=False).returncode == 0
        enter = ["nsenter", f"--target={open_pair.nbdkit().pid}", "--net", "--", *words]
        assert subprocess.run(enter, check=False).returncode == errno.ENETUNREACH


def test_it_can_write_to_its_own_files_only(open_pair: Pair) -> None:
    """A process in its place, as its user, tries what a conquered receiver would."""
    pid = open_pair.nbdkit().pid
    uid = status_of(pid)["Uid"].split()[0]
    exports = confined.inside(open_pair.base / "run" / open_pair.migration / "exports")
    secret = open_pair.base / "secret"
    secret.write_text("of another server")
    secret.chmod(0o600)
    (open_pair.base / "dst" / "another.part").mkdir(mode=0o700)
    tries = {
        f"echo x >> {exports}/0": True,
        f"echo x > {exports}/1": False,
        f"cat {secret}": False,
        "cat /etc/shadow": False,
        f"ls {open_pair.base}/dst/another.part": False,
        f"cat {confined.inside(open_pair.base)}/state/{open_pair.migration}/receiver.json": False,
        f"ls {open_pair.base}/state": False,
        "echo x > /tmp/hostler-was-here": False,
        "echo x > /dev/shm/hostler-was-here": False,
        "mount --bind /root /mnt": False,
    }
    enter = ["nsenter", f"--target={pid}", "--mount", "--", "setpriv", f"--reuid={uid}", f"--regid={uid}"]
    enter += ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "/bin/sh", "-c"]
    for words, allowed in tries.items():
        done = subprocess.run([*enter, words], check=False, capture_output=True)
        assert (done.returncode == 0) == allowed, (words, done)


def test_it_finds_its_files_whatever_the_umask_of_its_worker(nbd_pair: Pair) -> None:
    before = os.umask(0o077)  # as the worker's unit has it
    try:
        nbd_pair.send(nbd_pair.open(nbd_pair.export("0", dense(nbd_pair.base / "src" / "disk", 1))))
    finally:
        os.umask(before)


def test_what_arrives_is_the_receivers_own_and_nobody_elses(open_pair: Pair) -> None:
    uid = int(status_of(open_pair.nbdkit().pid)["Uid"].split()[0])
    part = open_pair.base / "dst" / "part-0"
    assert part.stat().st_uid == uid
    assert stat.S_IMODE(part.stat().st_mode) == 0o600


def test_a_machine_that_cannot_confine_it_runs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(confined, "_UNSHARE", ["/bin/sh", "-c", "echo not permitted >&2; exit 1"])
    pair = make_pair("nbd", tmp_path)
    disk = pair.export("0", dense(tmp_path / "src" / "disk", 1))
    with pytest.raises(
        errors.ReceiverUnavailable, match=r"cannot be confined: not permitted; see .images. confine"
    ):
        pair.open(disk)
    monkeypatch.setattr("os.geteuid", lambda: 1000)  # nothing that is root's is at stake then
    with caplog.at_level("WARNING"):
        pair.open(disk)
    pair.receiver.close(pair.migration)
    assert "is not confined, and runs as this user: not permitted" in caplog.text


def test_a_write_past_the_end_is_refused(open_pair: Pair) -> None:
    address = open_pair.open(open_pair.export("0", open_pair.base / "src" / "disk"))
    size = address.exports[0].size_bytes
    with tls.key_file(open_pair.base / "run-source", address.username, address.key) as key:
        link = Link(address, "0", key, "disk")
        link.connect()
        with pytest.raises(errors.ImageTransferError):
            link.write(memoryview(bytes(4096)), size)
        link.close()
    assert Path(address.exports[0].part).stat().st_size == size
