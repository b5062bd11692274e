"""What an operator does and sees on the lab's hosts: hostler's commands, libvirt's answers, files, consoles."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blake3

from lab import Guest, Host, Lab
from lab.process import wait_until

#: Where a server's things lie on a host.
PLACES = (
    "/var/lib/libvirt/instances",
    "/var/lib/libvirt/images",
    "/var/lib/libvirt/qemu/nvram",
    "/var/lib/libvirt/swtpm",
    "/var/lib/hostler",
)
#: The longest that one command is waited for.
PATIENCE_S = 120.0
#: A copy begins at the first rate, and then crawls at the second until a test lets it go: on no machine is it over
#: before a test has done what it wants to do in the middle.
BEGIN_RATE, CRAWL_RATE = "32mbit", "2mbit"


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def ending(self) -> tuple[int, str]:
        """Exit code and last words."""
        return self.code, (self.err or self.out).strip()

    @property
    def hint(self) -> str:
        """What it said to type next."""
        lines = (self.err + self.out).splitlines()
        return next((line.strip() for line in lines if line.startswith(("  try: ", "  next: "))), "")


def hostler(host: Host, *words: str) -> Said:
    """Type a command of hostler in a host."""
    done = host.run(["hostler", *words], check=False, timeout_s=PATIENCE_S)
    return Said(done.returncode, done.stdout, done.stderr)


def told(host: Host, *words: str) -> Any:
    """What a list or show command says as JSON; it must succeed."""
    said = hostler(host, *words, "-f", "json")
    assert said.code == 0, said
    return json.loads(said.out)


def move(host: Host, server: str, dest: str, *words: str) -> Said:
    """Migrate a server and wait for the end; *host* is where the command is typed."""
    return hostler(host, "server", "migrate", "--to", dest, "--wait", *words, "--", server)


def confirm(host: Host, server: str) -> Said:
    """Confirm a migration and wait for the end."""
    return hostler(host, "server", "confirm", "--wait", "--", server)


class Asked:
    """A command that waits, under way: what it has said so far, and how it ends."""

    def __init__(self, host: Host, *words: str) -> None:
        self._process = host.popen(["hostler", *words])
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    @property
    def text(self) -> str:
        """All that it has said."""
        return "".join(self._lines)

    def says(self, words: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it has said *words*."""

        def said() -> bool:
            assert words in self.text or self._process.poll() is None, f"{words!r} was not said: {self.text}"
            return words in self.text

        wait_until(said, f"{words!r} in {self.text}", timeout_s)

    def end(self, timeout_s: float = PATIENCE_S) -> Said:
        """Wait until it ends."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"it goes on: {self.text}") from None
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return Said(code, self.text, "")

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.end()


def moving(host: Host, server: str, dest: str) -> Asked:
    """Ask for a migration, to look at while it is under way."""
    return Asked(host, "server", "migrate", server, "--to", dest, "--wait", "--format", "plain")


@contextmanager
def copying(source: Host, dest: Host, server: str, typed_on: Host | None = None) -> Iterator[Asked]:
    """A migration in the middle of its copy, which crawls until ``source.slow_link(None)``."""
    source.slow_link(BEGIN_RATE)
    with moving(typed_on or source, server, dest.name) as asked:
        asked.says("CopyImages running")
        wait_copying(dest)
        source.slow_link(CRAWL_RATE)
        yield asked
    source.slow_link(None)


# -- waiting ------------------------------------------------------------------------------------------------


def wait_known(host: Host, *guests: Guest) -> None:
    """Wait until hostler has taken the guests into its records, with the state that they have."""

    def known() -> bool:
        rows = {row["UUID"]: row for row in told(host, "server", "list")}
        return all(
            guest.uuid in rows
            and (rows[guest.uuid]["Power"] == "running") == (guest.state(host) == "running")
            for guest in guests
        )

    wait_until(known, f"hostler to know {', '.join(guest.name for guest in guests)}", pause_s=0.2)


def wait_ready(*hosts: Host) -> None:
    """Wait until the workers of these hosts are alive, and theirs are the processes that run now."""

    def ready() -> bool:
        workers = {row["Name"]: row["Worker"] for row in told(hosts[0], "host", "list")}
        return all(workers.get(host.name) == "up" and _says_ready(host) for host in hosts)

    wait_until(ready, f"the workers of {', '.join(host.name for host in hosts)}", 60, pause_s=0.2)


def _says_ready(host: Host) -> bool:
    pid = host.worker_pid
    lines = host.worker_log(1_000_000).splitlines()  # one that has done much said it long ago
    return pid is not None and any(f" {pid} " in line and " is ready: " in line for line in lines)


def wait_copying(dest: Host, at_least: int = 4 << 20) -> None:
    """Wait until so many bytes of a copy lie on the destination's disk."""

    def allocated() -> int:
        parts = [path for place in PLACES[:2] for path in dest.path(place).glob("*.part")]
        return sum(_stat(path).st_blocks * 512 for part in parts for path in part.rglob("*"))

    wait_until(lambda: allocated() >= at_least, f"bytes on {dest.name}", 60)


def _stat(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except FileNotFoundError:
        return os.stat_result((0,) * 10 + (0,) * 9)


# -- looking ------------------------------------------------------------------------------------------------


@dataclass
class HostView:
    """All of one host that a migration could change, but for what a guest itself writes."""

    domains: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    receivers: str = ""
    claimed: tuple[int, ...] = ()


def view(host: Host, *boot_disks: Path) -> HostView:
    """Look at a host; of *boot_disks* only names and inodes, since a guest that boots writes to them."""
    listed = host.virsh("list", "--all", "--uuid").split()
    return HostView(
        domains={uuid: domain(host, uuid) for uuid in listed},
        files=dict(_files(host, {str(path) for path in boot_disks})),
        receivers=host.run(["pgrep", "-a", "nbdkit"], check=False).stdout,
        claimed=claimed(host),
    )


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """What is not as it was, each with where it stands in the views."""
    if before == after:
        return []
    if isinstance(before, HostView) and isinstance(after, HostView):
        return differences(vars(before), vars(after), path)
    if isinstance(before, dict) and isinstance(after, dict):
        keys = dict.fromkeys([*before, *after])
        return [one for key in keys for one in differences(before.get(key), after.get(key), f"{path} {key}")]
    if isinstance(before, (tuple, list)) and isinstance(after, (tuple, list)) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [one for n, pair in pairs for one in differences(*pair, f"{path} {n}")]
    return [f"{path}: {before!r} -> {after!r}"]


def claimed(host: Host, asked_on: Host | None = None) -> tuple[int, ...]:
    """What the host carries: servers, vCPUs and memory in use."""
    facts = told(asked_on or host, "host", "show", host.name)
    return tuple(facts[name] for name in ("servers", "vcpus_used", "memory_mb_used"))


def changed(before: object, after: object) -> list[str]:
    """What is not as it was; where the workers keep the definitions of servers on their way may stay, empty."""
    kept = "/var/lib/hostler/migrations:"
    return [one for one in differences(before, after) if kept not in one]


def sha256(host: Host, path: Path | str) -> str:
    """The digest of a file's contents."""
    with host.path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_digest(host: Host, path: Path | str) -> str:
    """The digest of what a file with holes holds: of each 1 MiB that is not zeros, with its place."""
    hasher, size = blake3.blake3(), 1 << 20
    with host.path(path).open("rb") as file:
        for place in _pieces(file.fileno(), size):
            if (data := os.pread(file.fileno(), size, place * size)).strip(b"\0"):
                hasher.update(place.to_bytes(8) + data)
    return hasher.hexdigest()


def _pieces(descriptor: int, size: int) -> Iterator[int]:
    """The pieces of a file that are not wholly holes."""
    end, position = os.fstat(descriptor).st_size, 0
    while position < end:
        try:
            position = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            return
        yield position // size
        position = (position // size + 1) * size


def allocated(host: Host, path: Path | str) -> int:
    """The bytes that a file takes on its host's disk."""
    return host.path(path).stat().st_blocks * 512


def left_of(host: Host, guest: Guest) -> Sequence[str]:
    """Every path below the places of servers whose name has to do with the guest."""
    names = (guest.uuid, guest.name)
    return [path for path, _ in _files(host, set(), digests=False) if any(name in path for name in names)]


def found_by_the_doctor(host: Host) -> set[str]:
    """What the doctor finds."""
    found = json.loads(hostler(host, "doctor", "-f", "json").out)
    return {one["Finding"] for one in found}


def server(host: Host, name: str) -> tuple[str, str, str | None, str]:
    """Host, vm state, task state and power state of a server, as the records have them."""
    facts = told(host, "server", "show", name)
    return facts["host"], facts["vm_state"], facts["task_state"], facts["power_state"]


def domain(host: Host, uuid: str) -> dict[str, Any]:
    """A domain as libvirt has it: definition, snapshots, power, autostart."""
    info = dict(line.split(":", 1) for line in host.virsh("dominfo", uuid).splitlines() if ":" in line)
    return {
        "xml": host.virsh("dumpxml", "--inactive", uuid),
        "snapshots": host.virsh("snapshot-list", "--name", uuid),
        **{name: info[name].strip() for name in ("Name", "State", "Persistent", "Autostart")},
    }


def _files(host: Host, boot_disks: set[str], digests: bool = True) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for place in PLACES:
        top = host.path(place)
        for path in sorted(top.rglob("*")) if top.exists() else ():
            name = f"{place}/{path.relative_to(top)}"
            status = path.lstat()
            facts: tuple[Any, ...] = (oct(status.st_mode), status.st_ino)
            if path.is_file() and digests and name not in boot_disks:
                facts += (status.st_size, sha256(host, name))
            yield name, facts


def kill(host: Host, program: str) -> None:
    """Kill the host's processes of that name."""
    pids = host.run(["pgrep", "-x", program]).stdout.split()
    host.run(["kill", "-KILL", *pids])


def same_machine(before: str, after: str) -> bool:
    """Whether two definitions are one, but for hostler's mark."""
    return _without_mark(before) == _without_mark(after)


def _without_mark(xml: str) -> list[str]:
    lines = [line.strip() for line in xml.splitlines()]
    lines = [line for line in lines if "hostler:" not in line or "urn:hostler:lab" in line]
    text = "\n".join(lines).replace("<metadata>\n</metadata>\n", "")
    return text.replace("<metadata/>\n", "").splitlines()


def sql(lab: Lab, *statements: str) -> None:
    """Meddle with the records, as nobody should."""
    import sqlite3

    with sqlite3.connect(lab.database.removeprefix("sqlite:///"), timeout=30) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
