"""What must hold when a round is over, looked up in the world and not in hostler's records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab import Guest, Host
from lab.process import LabError, run, wait_until
from tests.chaos.journal import ACK, Journal
from tests.chaos.office import Office
from tests.chaos.witness import Witness
from tests.support.operator import left_of

#: Where a disk is copied to be read.
READ = Path("/var/lib/libvirt/read.raw")
#: In what an undo leaves for the next attempt; once its time is over, the doctor is not content with it.
KEPT = ".kept"
#: The longest that a worker which has just come back, or an undo that it owes, is waited for.
PATIENCE_S = 60.0


class Wrong(Exception):
    """A promise was broken."""


def examine(
    hosts: Sequence[Host],
    journals: Sequence[Journal],
    office: Office,
    witness: Witness,
    homes: dict[str, str],
) -> None:
    """Raise `Wrong` with everything that is wrong; *homes* says where the records have each server."""
    doctor_is_content(office)
    found = list(witness.violations)
    for journal in journals:
        home = next(host for host in hosts if host.name == homes[journal.guest.uuid])
        try:
            writes(journal.guest, home)
        except LabError as error:
            found.append(f"{journal.guest.name}: {error}")
        found += copies(journal.guest, home, hosts, witness)
        found += journal.problems(hosts)
    if found:
        raise Wrong("; ".join(found))


def doctor_is_content(office: Office) -> None:
    """Wait until the doctor finds nothing that anybody has to do something about."""
    found: list[str] = []

    def clean() -> bool:
        found[:] = office.findings()
        return not found

    try:
        wait_until(clean, "the doctor to be content", PATIENCE_S, pause_s=1)
    except LabError as error:
        raise Wrong(f"the doctor finds: {'; '.join(found)}") from error


def writes(guest: Guest, home: Host) -> None:
    """See that the guest runs and writes; start it first if it is off."""
    if guest.state(home) == "shut off":
        home.run(["virsh", "-q", "start", guest.uuid], check=False)
    place = len(home.console(guest.name))
    what = f"a write of {guest.name} on {home.name}"
    wait_until(lambda: ACK.search(home.console(guest.name), place) is not None, what, 120, pause_s=0.2)


def copies(guest: Guest, home: Host, hosts: Sequence[Host], witness: Witness) -> list[str]:
    """What is not exactly one copy: definitions, processes, autostart, files."""
    found = []
    for host in hosts:
        known = guest.uuid in host.virsh("list", "--all", "--uuid").split()
        if known != (host is home):
            found.append(f"{'defined' if known else 'not defined'} on {host.name}; its home is {home.name}")
        left = [path for path in left_of(host, guest) if KEPT not in path]
        if host is home:
            found += [f"{path} on {host.name} is not its own" for path in left if _is_strange(path)]
        elif left:
            found.append(f"left on {host.name}: {', '.join(left)}")
    if len(pids := witness.running(guest.uuid)) != 1:
        found.append(f"{len(pids)} QEMUs")
    info = home.run(["virsh", "-q", "dominfo", guest.uuid], check=False).stdout
    if "Persistent:     yes" not in info:
        found.append(f"not persistent on {home.name}")
    if ("Autostart:      enable" in info) != guest.autostart:
        found.append(f"autostart on {home.name} is not as it was")
    return [f"{guest.name}: {problem}" for problem in found]


def disk_holds_journal(guest: Guest, home: Host) -> int:
    """Shut the guest down, and read its journal from its disk; return its lines. `Wrong` if any is missing."""
    guest.shut_down(home)
    # In the host: the image may have a backing file there.
    home.run(["qemu-img", "convert", "-f", guest.disks[0].format, "-O", "raw", guest.disk_path(), READ])
    lines = run(["debugfs", "-R", "cat /journal", home.path(READ)]).splitlines()
    home.path(READ).unlink()
    numbers = [int(line.split()[0]) for line in lines]
    if numbers != list(range(1, len(lines) + 1)):
        raise Wrong(f"{guest.name}: its disk's journal has lines that are not in order")
    return len(lines)


def _is_strange(path: str) -> bool:
    """Whether a path carries a mark of a migration."""
    return any(word in path for word in (".part", "_resize", ".hostler", ".aside"))
