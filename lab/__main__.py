"""The lab's commands: ``tools/lab up``, ``tools/lab on kvm1 virsh list``, ``tools/lab down``."""

import argparse
import os
import sys
from pathlib import Path
from typing import TypeAlias

from lab import services
from lab.disks import LAYERED, SPARSE, Disk
from lab.guest import Guest
from lab.process import LabError
from lab.switch import MACHINE
from lab.yard import DEFAULT_DIRECTORY, Lab

Arguments = argparse.Namespace
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main() -> int:
    arguments = parser().parse_args()
    lab = Lab(arguments.directory)
    try:
        arguments.do(lab, arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def up(_: Lab, arguments: Arguments) -> None:
    lab = Lab(arguments.directory, arguments.hosts, arguments.disk_size)
    lab.up(workers=arguments.workers)
    status(lab, arguments)


def down(lab: Lab, _: Arguments) -> None:
    lab.down()


def status(lab: Lab, _: Arguments) -> None:
    for host in lab.hosts:
        link = "cut" if host.link["cut"] else host.link["rate"] or "whole"
        worker = "on" if host.is_on and host.worker_pid else "off"
        power = "on" if host.is_on else "off"
        print(f"{host.name}  {host.address}  power {power}  link {link}  worker {worker}")
    print(f"zookeeper  {lab.zookeeper.hosts}  {'on' if lab.zookeeper.is_on else 'off'}")
    print(f"database  {lab.database}")


def on(lab: Lab, arguments: Arguments) -> None:
    terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
    words = arguments.command or ["bash"]
    command = lab.host(arguments.host).command(words, terminal)
    os.execvp(command[0], command)


def power_cut(lab: Lab, arguments: Arguments) -> None:
    lab.host(arguments.host).power_cut()


def power_on(lab: Lab, arguments: Arguments) -> None:
    lab.host(arguments.host).power_on()


def cut_link(lab: Lab, arguments: Arguments) -> None:
    lab.host(arguments.host).cut_link()


def mend_link(lab: Lab, arguments: Arguments) -> None:
    lab.host(arguments.host).mend_link()


def slow_link(lab: Lab, arguments: Arguments) -> None:
    lab.host(arguments.host).slow_link(None if arguments.rate == "off" else arguments.rate)


def fill_disk(lab: Lab, arguments: Arguments) -> None:
    lab.host(arguments.host).fill_disk(arguments.leave)


def free_disk(lab: Lab, arguments: Arguments) -> None:
    lab.host(arguments.host).free_disk()


def worker(lab: Lab, arguments: Arguments) -> None:
    host = lab.host(arguments.host)
    {"start": host.start_worker, "stop": host.stop_worker, "kill": host.kill_worker}[arguments.verb]()


def guest_create(lab: Lab, arguments: Arguments) -> None:
    boot = LAYERED if arguments.layered else Disk(format=arguments.format)
    guest = Guest(
        arguments.name,
        memory_mib=arguments.memory,
        disks=(boot, SPARSE) if arguments.sparse else (boot,),
        layout=arguments.layout,
        autostart=arguments.autostart,
        ignore_acpi=arguments.ignore_acpi,
        uefi=arguments.uefi,
        tpm=arguments.tpm,
    )
    guest.create(lab.host(arguments.host))
    print(guest.uuid)


def guest_start(lab: Lab, arguments: Arguments) -> None:
    host = lab.host(arguments.host)
    guest = Guest(arguments.name)
    guest.start(host)
    print(guest.boot_lines(host)[-1])


def guest_console(lab: Lab, arguments: Arguments) -> None:
    print(lab.host(arguments.host).console(arguments.name), end="")


def services_up(lab: Lab, arguments: Arguments) -> None:
    address = lab.switch.address(MACHINE) if arguments.for_hosts else ""
    services.up(arguments.folder, arguments.name, address)
    services_status(lab, arguments)


def services_down(_: Lab, arguments: Arguments) -> None:
    services.down(arguments.folder, arguments.name)


def services_status(_: Lab, arguments: Arguments) -> None:
    for service in services.all_of(arguments.folder):
        print(f"{service.name}  {service.url}  {'on' if service.pid else 'off'}")
    print(f"clouds.yaml  {services.clouds_file(arguments.folder)}")


def parser() -> argparse.ArgumentParser:
    """Every command of the lab."""
    top = argparse.ArgumentParser(prog="tools/lab", description="Two libvirt hosts on this machine.")
    top.add_argument(
        "--directory", type=Path, default=DEFAULT_DIRECTORY, help="the lab's folder: %(default)s"
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_lab_commands(commands)
    _add_host_commands(commands)
    _add_guest_commands(commands.add_parser("guest", help="make, start and listen to guests"))
    _add_service_commands(commands.add_parser("services", help="a cloud's services, each private"))
    return top


def _add_lab_commands(commands: Commands) -> None:
    start = commands.add_parser("up", help="bring the hosts, the switch and ZooKeeper up")
    start.add_argument("--hosts", type=int, default=2, choices=(1, 2, 3), help="how many: %(default)s")
    start.add_argument(
        "--disk-size", metavar="SIZE", help="limit each host's /var/lib/libvirt, for example 2G"
    )
    start.add_argument("--workers", action="store_true", help="start hostler's worker on each host")
    start.set_defaults(do=up)
    commands.add_parser("down", help="end and remove everything").set_defaults(do=down)
    commands.add_parser("status", help="say what is on").set_defaults(do=status)


def _add_host_commands(commands: Commands) -> None:
    simple = {
        "power-cut": (power_cut, "kill every process of the host at once"),
        "power-on": (power_on, "boot the host again"),
        "cut-link": (cut_link, "cut the host's cable"),
        "mend-link": (mend_link, "mend the host's cable"),
        "free-disk": (free_disk, "undo fill-disk"),
    }
    for name, (do, words) in simple.items():
        command = commands.add_parser(name, help=words)
        command.add_argument("host")
        command.set_defaults(do=do)
    slow = commands.add_parser("slow-link", help="limit the host's cable each way")
    slow.add_argument("host")
    slow.add_argument("rate", help="as tc writes it: 10mbit; off lifts the limit")
    slow.set_defaults(do=slow_link)
    fill = commands.add_parser("fill-disk", help="fill the host's /var/lib/libvirt (needs up --disk-size)")
    fill.add_argument("host")
    fill.add_argument("--leave", default="0", metavar="SIZE", help="leave this much: 10M")
    fill.set_defaults(do=fill_disk)
    run = commands.add_parser("on", help="run a command in the host, or a shell")
    run.add_argument("host")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    run.set_defaults(do=on)
    service = commands.add_parser("worker", help="start, stop or kill the host's worker")
    service.add_argument("host")
    service.add_argument("verb", choices=("start", "stop", "kill"))
    service.set_defaults(do=worker)


def _add_guest_commands(guest: argparse.ArgumentParser) -> None:
    commands = guest.add_subparsers(required=True, metavar="COMMAND")
    for name, do, words in (
        ("create", guest_create, "make the disks and define the domain"),
        ("start", guest_start, "start it and wait until it is up"),
        ("console", guest_console, "print what it showed on this host"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("host")
        command.add_argument("name")
        command.set_defaults(do=do)
    create = commands.choices["create"]
    create.add_argument(
        "--layout", choices=("dir", "flat"), default="dir", help="as Nova or virt-install: %(default)s"
    )
    create.add_argument(
        "--format", choices=("qcow2", "raw"), default="qcow2", help="of the boot disk: %(default)s"
    )
    create.add_argument("--memory", type=int, default=128, metavar="MIB", help="%(default)s")
    create.add_argument("--layered", action="store_true", help="boot disk with a backing file and a snapshot")
    create.add_argument("--sparse", action="store_true", help="a second disk, 20 GiB that hold 1 GiB")
    create.add_argument("--ignore-acpi", action="store_true", help="deaf to the power button")
    for flag in ("--autostart", "--uefi", "--tpm"):
        create.add_argument(flag, action="store_true")


def _add_service_commands(group: argparse.ArgumentParser) -> None:
    group.add_argument(
        "--folder", type=Path, default=services.DEFAULT_DIRECTORY, help="their folder: %(default)s"
    )
    commands = group.add_subparsers(required=True, metavar="COMMAND")
    known = f"{', '.join(services.SERVICES)}; all of them if none is named"
    for name, do, words in (
        ("up", services_up, "start them; those that run stay as they are"),
        ("down", services_down, "end them and remove what they have written"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("name", nargs="*", metavar="NAME", help=known)
        command.set_defaults(do=do)
    commands.choices["up"].add_argument(
        "--for-hosts", action="store_true", help="not on loopback, but where the lab's hosts reach them"
    )
    commands.add_parser("status", help="say what is on").set_defaults(do=services_status)


if __name__ == "__main__":
    sys.exit(main())
