"""One cold migration between two real hosts, typed and shown as an operator would see it."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from lab.disks import Disk
from lab.guest import INSTANCES, Guest
from lab.host import Host
from lab.places import BASE
from lab.process import LabError, wait_until
from lab.yard import Lab

GRAPH = BASE / "demo-graph.svg"
DATA = Disk(kind="sparse", format="raw", size_mib=1024, data_mib=256)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the hosts up afterwards")
    parser.add_argument("--directory", type=Path, default=BASE / "demo", help="the lab's folder: %(default)s")
    arguments = parser.parse_args()
    lab = Lab(arguments.directory)
    try:
        play(lab)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        show_workers(lab)
        return 1
    finally:
        if arguments.keep:
            show_what_can_be_done(arguments.directory)
        else:
            lab.down()
    return 0


def play(lab: Lab) -> None:
    """The whole demo, in order."""
    say("Two hosts, each with its own libvirt, and a hostler worker on each.")
    lab.down()
    lab.up()
    kvm1, kvm2 = lab.host("kvm1"), lab.host("kvm2")
    type_in(kvm1, "hostler", "db", "upgrade")
    for host in (kvm1, kvm2):
        host.start_worker()
        print(f"root@{host.name}:~# hostler worker &")
    say("A small real guest boots on kvm1: a boot disk, and a data disk of 1 GiB that holds 256 MiB.")
    web1 = Guest("web1", disks=(Disk(), DATA)).create(kvm1)
    type_in(kvm1, "virsh", "start", "web1")
    web1.wait_for_boot(kvm1)
    wait_until(lambda: knows(kvm1, web1), "hostler to know web1", pause_s=0.5)
    type_in(kvm1, "hostler", "host", "list")
    type_in(kvm1, "hostler", "server", "list")
    say("It moves to kvm2.")
    type_in(kvm1, "hostler", "server", "migrate", "web1", "--to", "kvm2", "--wait")
    web1.wait_for_boot(kvm2)
    show_the_move(kvm1, kvm2)
    prove_the_guest(kvm1, kvm2, web1)
    prove_the_disk(kvm1, kvm2, web1)
    say("The operator is content: what kvm1 set aside may go.")
    type_in(kvm1, "hostler", "server", "confirm", "web1", "--wait")
    type_in(kvm1, "hostler", "server", "list")
    type_in(kvm1, "ls", "-A", str(INSTANCES))
    say("Done: web1 runs on kvm2, nothing of it is left on kvm1.")


def show_the_move(kvm1: Host, kvm2: Host) -> None:
    """What the records and both libvirts say after the move."""
    type_in(kvm1, "hostler", "server", "list")
    type_in(kvm1, "hostler", "migration", "show", "web1")
    say(f"The same as a picture: {GRAPH}")
    type_in(kvm1, "hostler", "migration", "graph", "web1", "--format", "svg", into=GRAPH)
    say("What both libvirts say.")
    type_in(kvm1, "virsh", "list", "--all")
    type_in(kvm2, "virsh", "list", "--all")


def prove_the_guest(kvm1: Host, kvm2: Host, guest: Guest) -> None:
    """The guest's own words on both hosts: the same marker, one boot later, shut down cleanly in between."""
    say("The guest's own words, on each host's console:")
    before, after = guest.boot_lines(kvm1)[-1], guest.boot_lines(kvm2)[-1]
    print(f"  kvm1: {before}\n  kvm2: {after}")
    marker = f"MARKER={guest.marker} "
    if not before.startswith(f"{marker}BOOTS=1 ") or not after.startswith(f"{marker}BOOTS=2 DIRTY=no "):
        raise LabError("the guest on kvm2 is not the one that was shut down on kvm1")


def prove_the_disk(kvm1: Host, kvm2: Host, guest: Guest) -> None:
    """One hash on both hosts: of the disk that the guest does not write to.

    The boot disk is written to again as soon as the guest runs; that it arrived whole is what VerifyImages saw
    before, and what the guest's own boot count says.
    """
    say("The data disk's hash: of what kvm1 set aside, and of what the guest runs with on kvm2.")
    aside = Path(f"{guest.directory}_resize", guest.disk_path(1).name)
    hashes = [type_in(kvm1, "sha256sum", str(aside)), type_in(kvm2, "sha256sum", str(guest.disk_path(1)))]
    if len({line.split()[0] for line in hashes}) != 1:
        raise LabError("the data disk on kvm2 is not the one of kvm1")


def knows(host: Host, guest: Guest) -> bool:
    """Whether hostler has taken the guest into its records."""
    return host.run(["hostler", "server", "show", guest.name], check=False).returncode == 0


def say(words: str) -> None:
    print(f"\n# {words}", flush=True)


def type_in(host: Host, *words: str, into: Path | None = None) -> str:
    """Show a command at the host's prompt and run it; on a terminal hostler gets the terminal.

    What it says goes to the file *into*, if given: a folder that the hosts and the machine both see. Of other
    programs than hostler it is also returned.
    """
    redirection = "" if into is None else f" > {into}"
    print(f"root@{host.name}:~# {shlex.join(words)}{redirection}", flush=True)
    command = host.command(words, terminal())
    shown = into is None and words[0] == "hostler"
    stdin = None if shown and sys.stdin.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdin=stdin, stdout=None if shown else subprocess.PIPE, text=True)
    said = done.stdout or ""
    if into is not None:
        into.write_text(said)
    elif said.strip():
        print(said.rstrip(), flush=True)
    if done.returncode != 0:
        raise LabError(f"{shlex.join(words)}: exit code {done.returncode}")
    return said


def terminal() -> dict[str, str]:
    """What a program must know of the terminal that it is shown on."""
    return {name: os.environ[name] for name in ("TERM", "COLORTERM", "NO_COLOR") if name in os.environ}


def show_workers(lab: Lab) -> None:
    """The ends of the workers' logs, where the reason stands."""
    for host in lab.hosts if lab.is_up else ():
        if host.is_on:
            print(f"--- {host.name}: /var/log/hostler/worker.log\n{host.worker_log(40)}", file=sys.stderr)


def show_what_can_be_done(directory: Path) -> None:
    tool = f"tools/lab --directory {directory}"
    say("The hosts are still up. For example:")
    for words in (
        "on kvm1",
        "on kvm1 hostler migration list",
        "guest create kvm1 db1 --sparse",
        "guest start kvm1 db1",
        "on kvm1 hostler server migrate db1 --to kvm2 --wait",
        "power-cut kvm2",
        "power-on kvm2",
        "down",
    ):
        print(f"{tool} {words}")


if __name__ == "__main__":
    sys.exit(main())
