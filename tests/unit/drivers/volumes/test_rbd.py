"""Locks of RBD images: in memory as in a real Ceph, and as its program tells of them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hostler.drivers.volumes.rbd import Lock, RbdLocks
from hostler.drivers.volumes.rbd_fake import FakeLocks
from hostler.errors import MigrationError
from hostler.objects import Secret, Volume
from tests.support.contracts.locks import *  # noqa: F403 - the tests are the module's

SECRET = Secret("ceph", usage="client.libvirt secret")
VOLUME = Volume("vda", "rbd", "pool/vol1", ["10.0.0.1:6789", "[fd00::1]:3300"], user="libvirt", secret=SECRET)
KEY = bytes(range(28))
LOCKS = [{"id": "auto 93990563520512", "locker": "client.4143", "address": "10.0.0.11:0/1206"}]
OLD_LOCKS = {one["id"]: {"locker": one["locker"], "address": one["address"]} for one in LOCKS}
WATCHERS = {"watchers": [{"address": "10.0.0.11:0/1206", "client": 4143, "cookie": 93990563520512}]}
OLD_WATCHERS = {"watchers": {"watcher": WATCHERS["watchers"][0]}}


@dataclass
class InMemory:
    """A :class:`~tests.support.contracts.locks.Stand`."""

    locks: FakeLocks
    volume: Volume = VOLUME

    def hold(self) -> None:
        self.locks.held[self.volume.name] = [Lock("auto 1", "client.4143", "10.0.0.11:0/1", watched=True)]

    def let_go(self) -> None:
        self.locks.held.clear()

    def die(self) -> None:
        pass

    def forget(self) -> None:
        (held,) = self.locks.held[self.volume.name]
        self.locks.held[self.volume.name] = [replace(held, watched=False)]

    def type(self, command: str) -> None:
        assert command == f"rbd lock rm {self.volume.name} client.4143"
        self.locks.held.clear()


@pytest.fixture
def stand() -> InMemory:
    return InMemory(FakeLocks())


@dataclass
class Program:
    """A program ``rbd`` that says what it was told to, and remembers how it was called."""

    directory: Path

    def answer(self, locks: object, status: object = WATCHERS) -> None:
        (self.directory / "lock").write_text(json.dumps(locks))
        (self.directory / "status").write_text(json.dumps(status))

    def be(self, text: str) -> str:
        program = self.directory / "rbd"
        program.write_text(text)
        program.chmod(0o755)
        return str(program)

    @property
    def calls(self) -> list[list[str]]:
        return [line.split("\t") for line in (self.directory / "calls").read_text().splitlines()]


TELLING = """#!/bin/sh
cd "$(dirname "$0")" || exit
printf '%s\\t' "$@" | sed 's/\\t$/\\n/' >>calls
for word; do case $word in /proc/self/fd/*) cat "$word" >key;; lock|status) cat "$word";; esac; done
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    made = Program(tmp_path)
    made.be(TELLING)
    made.answer(LOCKS)
    return made


def ask(
    program: Program, value: bytes | None = KEY, volume: Volume = VOLUME, timeout_s: float = 30
) -> list[Lock]:
    return RbdLocks(lambda _: value, str(program.directory / "rbd"), timeout_s).of(volume)


@pytest.mark.parametrize("locks", [LOCKS, OLD_LOCKS], ids=["14", "12"])
@pytest.mark.parametrize("watchers", [WATCHERS, OLD_WATCHERS], ids=["14", "12"])
def test_a_lock_is_told_with_who_holds_it(program: Program, locks: object, watchers: object) -> None:
    program.answer(locks, watchers)
    (held,) = ask(program)
    assert held == Lock("auto 93990563520512", "client.4143", "10.0.0.11:0/1206", watched=True)
    program.answer(locks, {"watchers": []})
    assert ask(program) == [replace(held, watched=False)]


def test_ceph_is_asked_as_the_guest_would_be_with_libvirts_key_in_no_file_and_on_no_command_line(
    program: Program,
) -> None:
    ask(program)
    first, second = program.calls
    where = ["-m", "10.0.0.1:6789,[fd00::1]:3300", "--id", "libvirt"]
    assert first[:4] == where
    assert first[4] == "--keyfile"
    assert first[6:] == ["--format", "json", "lock", "ls", "--pool=pool", "--image=vol1"]
    assert second[6:] == ["--format", "json", "status", "--pool=pool", "--image=vol1"]
    assert (program.directory / "key").read_bytes() == base64.b64encode(KEY)


def test_a_user_whose_key_libvirt_does_not_tell_has_it_from_the_hosts_keyring(program: Program) -> None:
    program.answer([])
    assert ask(program, None) == []
    (call,) = program.calls
    assert "--keyfile" not in call


def test_a_cluster_that_a_file_names_and_a_namespace_are_named_to_it(program: Program) -> None:
    program.answer([])
    assert ask(program, volume=Volume("vda", "rbd", "-p/space/-i", config="/etc/ceph/two.conf")) == []
    (call,) = program.calls
    asked = ["--format", "json", "lock", "ls", "--pool=-p", "--namespace=space", "--image=-i"]
    assert call == ["--conf", "/etc/ceph/two.conf", *asked]


def test_a_program_that_is_not_there_is_said_with_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="apt install ceph-common"):
        ask(Program(tmp_path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "#!/bin/sh\necho 'rbd: error opening image vol1: (2) No such file or directory' >&2; exit 2",
            "No such file",
        ),
        ("#!/bin/sh\nexit 3", "exit status 3"),
        ("#!/bin/sh\necho '{broken'", "Expecting property name"),
        ("#!/bin/sh\nexec sleep 60", "does not answer in 0 s"),
    ],
)
def test_what_ceph_does_not_tell_is_no_free_image(program: Program, text: str, words: str) -> None:
    program.be(text)
    with pytest.raises(MigrationError, match=words):
        ask(program, timeout_s=0.4 if "sleep" in text else 30)


def test_what_breaks_a_lock_is_a_command_that_a_shell_takes() -> None:
    held = Lock("auto 1", "client.4143", "10.0.0.11:0/1", watched=False)
    command = RbdLocks(lambda _: KEY).breaking(replace(VOLUME, name="pool/a b;c"), held)
    assert command == (
        "rbd -m '10.0.0.1:6789,[fd00::1]:3300' --id libvirt lock rm 'pool/a b;c' 'auto 1' client.4143"
    )
