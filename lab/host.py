"""One host of the lab: its power, its commands, its files, its worker."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from lab import etc, pid1
from lab.etc import Settings
from lab.places import BASE, CACHE, CHECKOUT, HOST_ENVIRONMENT
from lab.process import Daemon, LabError, children_of, run, start_time, wait_until
from lab.switch import Switch, hardware_address

#: What is the host's own and outlives its power cuts, by the name of its folder in the lab.
OWN_FOLDERS = {
    "etc": "/etc",
    "root": "/root",
    "var-lib-libvirt": "/var/lib/libvirt",
    "var-log-libvirt": "/var/log/libvirt",
    "var-cache-libvirt": "/var/cache/libvirt",
    "var-lib-swtpm-localca": "/var/lib/swtpm-localca",
    "var-lib-hostler": "/var/lib/hostler",
    "var-log-hostler": "/var/log/hostler",
}
#: What `lab.clock` reads in the host.
WORKER_CLOCK = Path("/run/hostler-worker.clock")
WORKER = ["hostler", "worker"]
#: The same, with a clock that can be moved.
WORKER_WITH_CLOCK = ["python", str(CHECKOUT / "lab/clock.py")]
FILLER = "/var/lib/libvirt/filler"
#: Others take and give back room while a disk is filled.
FILL_TRIES = 20
SPACES = ["--net", "--mount", "--uts", "--ipc", "--pid"]


class Host:
    """A machine's worth of namespaces. Its disk stays when its power goes; its /run does not."""

    def __init__(self, directory: Path, switch: Switch, settings: Settings, disk_size: str | None) -> None:
        self.name = settings.host
        self.address = settings.address
        self.directory = directory
        self._switch = switch
        self._settings = settings
        self._disk_size = disk_size
        self._process = Daemon(directory / "process.json")

    # Power

    @property
    def pid(self) -> int:
        """The host's first process, as the machine numbers it; `LabError` if the power is off."""
        outer = self._process.pid
        inner = children_of(outer) if outer is not None else []
        if not inner or start_time(inner[0]) is None:
            raise LabError(f"{self.name} is off")
        return inner[0]

    @property
    def is_on(self) -> bool:
        """Whether the host has power."""
        try:
            return self.pid > 0
        except LabError:
            return False

    def power_on(self) -> None:
        """Boot the host and return when its libvirtd answers; nothing if it is on."""
        if self.is_on:
            return
        self._make_disk()
        # Against util-linux: without --propagation private, mounts made in the host would reach the machine.
        spaces = [*SPACES, "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        first = ["/usr/bin/python3", "-I", "-B", str(Path(pid1.__file__)), str(self._specification())]
        self._process.start(["unshare", *spaces, *first], self.directory / "pid1.log")
        wait_until(lambda: self._came_up(self._has_own_network), f"{self.name}: namespaces")
        self._switch.plug(self.name, self.pid)
        self._apply_link()
        wait_until(lambda: self._came_up(self._libvirt_answers), f"{self.name}: libvirtd", timeout_s=60)

    def power_cut(self) -> None:
        """Pull the plug: every process of the host dies at once, QEMU too."""
        if self.is_on:
            os.kill(self.pid, signal.SIGKILL)
            # Its parent ends once the last process of the namespace is gone.
            self._process.wait()
        self._process.end(signal.SIGKILL)
        self._switch.unplug(self.name)

    # Network

    def cut_link(self) -> None:
        """Cut the host's cable; it stays cut through a power cut."""
        self._remember_link(cut=True)

    def mend_link(self) -> None:
        """Mend the host's cable."""
        self._remember_link(cut=False)

    def slow_link(self, rate: str | None) -> None:
        """Limit the host's cable to *rate* (as tc(8) writes it: 10mbit) each way; None lifts the limit."""
        self._remember_link(rate=rate)

    @property
    def link(self) -> dict[str, object]:
        """The state of the cable: `cut` and `rate`."""
        recorded = self.directory / "link.json"
        return {"cut": False, "rate": None, **(json.loads(recorded.read_text()) if recorded.exists() else {})}

    # Commands

    def command(self, argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> list[str]:
        """The command of the machine that runs *argv* in the host and dies with whoever runs it."""
        variables = {**HOST_ENVIRONMENT, **(environment or {})}
        enter = ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", "-i", "-p"]
        # nsenter forks to enter the pid namespace; without this, killing it would leave the command behind.
        tie = ["setpriv", "--pdeathsig", "KILL"]
        env = ["env", "-i", "-C", "/root", *(f"{name}={value}" for name, value in variables.items())]
        return [*enter, *tie, *env, *(str(word) for word in argv)]

    def run(
        self,
        argv: Sequence[str | Path],
        check: bool = True,
        timeout_s: float = 120,
        text_in: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host; its output is captured. `LabError` with its words if it fails."""
        done = subprocess.run(
            self.command(argv),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            input=text_in,
            stdin=subprocess.DEVNULL if text_in is None else None,
        )
        if check and done.returncode != 0:
            words = " ".join(str(word) for word in argv)
            raise LabError(f"{self.name}: {words}: exit code {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def popen(self, argv: Sequence[str | Path]) -> subprocess.Popen[str]:
        """Start a command in the host, its output in one pipe; killing what is returned kills it."""
        return subprocess.Popen(
            self.command(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill_libvirtd(self) -> None:
        """Kill libvirtd, and only it; guests run on. Returns when the next one answers."""
        self.run(["pkill", "-KILL", "-x", "libvirtd"])
        wait_until(self._libvirt_answers, f"{self.name}: libvirtd", timeout_s=60)

    def virsh(self, *words: str) -> str:
        """What virsh says to these words."""
        return self.run(["virsh", "-q", *words]).stdout.strip()

    def pid_of(self, process: subprocess.Popen[str]) -> int:
        """The pid, as the machine numbers it, of the command that `popen` started: to signal just that."""
        wait_until(lambda: bool(children_of(process.pid)), f"{self.name}: {process.args!r}")
        return children_of(process.pid)[0]

    # Files

    def path(self, inside: str | Path) -> Path:
        """Where the machine sees the host's file *inside*; with its power off, only what is on its disk."""
        if self.is_on:
            return Path(f"/proc/{self.pid}/root{inside}")
        for folder, place in OWN_FOLDERS.items():
            if Path(inside).is_relative_to(place) and not (self._disk_size and place == "/var/lib/libvirt"):
                return self.directory / folder / Path(inside).relative_to(place)
        raise LabError(f"{self.name} is off, and {inside} is not on its disk")

    def console(self, guest: str) -> str:
        """All that the guest's console showed on this host."""
        log = self.path(f"/var/log/libvirt/{guest}.console")
        return log.read_text(errors="replace") if log.exists() else ""

    def share(self, folder: Path, place: str) -> None:
        """Cover *place* with a folder of the machine's, as if it were mounted from a file server, until a power cut."""
        self.run(["mount", "--bind", folder, place])

    def unshare(self, place: str) -> None:
        """Undo `share`; nothing if nothing is mounted there."""
        self.run(["umount", "-l", place], check=False)

    def fill_disk(self, leave: str = "0") -> None:
        """Fill the file system of the images but for *leave* (as truncate(1) writes it: 10M)."""
        if self._disk_size is None:
            raise LabError(f"{self.name}'s disk is the machine's own; give the lab a disk size to fill it")
        left = int(self.run(["numfmt", "--from=iec", leave]).stdout)
        filler = self.path(FILLER)
        filler.touch()
        for _ in range(FILL_TRIES):
            free = int(self.run(["stat", "-f", "-c", "%a", "/var/lib/libvirt"]).stdout) * 4096
            wanted = filler.stat().st_blocks * 512 + free - left
            if free <= left:
                return
            # guests and copies write, too: what was free a moment ago may not be any more
            if self.run(["fallocate", "-l", str(wanted), str(FILLER)], check=False).returncode == 0:
                return
        raise LabError(f"{self.name}'s disk cannot be filled: others write to it as fast")

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        self.path(FILLER).unlink(missing_ok=True)

    def remove_guests(self) -> None:
        """Destroy and undefine every guest, and remove what lies where guests' disks do."""
        for guest in self.virsh("list", "--all", "--uuid").split():
            self.run(["virsh", "-q", "destroy", guest], check=False)
            # A transient one is gone by now.
            self.run(
                ["virsh", "-q", "undefine", guest, "--nvram", "--managed-save", "--snapshots-metadata"],
                check=False,
            )
        # Beside the guests' kernel, which the lab's hosts share, a migration that nobody ended leaves these.
        for part in self._cache.rglob("*.part"):
            shutil.rmtree(part, ignore_errors=True)
        for token in self._cache.rglob(".hostler-migration.*"):
            token.unlink(missing_ok=True)
        if left_over := self.virsh("list", "--all", "--name").split():
            raise LabError(f"{self.name} still has {', '.join(left_over)}")
        for folder in ("images", "instances"):
            for left in self.path(f"/var/lib/libvirt/{folder}").iterdir():
                self.run(["rm", "-rf", f"/var/lib/libvirt/{folder}/{left.name}"])
        for console in self.path("/var/log/libvirt").glob("*.console"):
            console.unlink()

    # The worker

    @property
    def worker_pid(self) -> int | None:
        """The worker's pid in the host, while it runs."""
        recorded = self.path(pid1.WORKER_PID)
        return int(recorded.read_text()) if recorded.exists() else None

    def start_worker(self) -> None:
        """Enable the worker, now and after each boot, and start it."""
        self.path(pid1.WORKER_ENABLED).touch()
        looks = self._worker_looks()
        os.kill(self.pid, signal.SIGUSR1)
        wait_until(lambda: self._worker_looks() > looks, f"{self.name}: worker")

    def stop_worker(self, timeout_s: float = 60) -> None:
        """End the worker in good order and disable it."""
        self.path(pid1.WORKER_ENABLED).unlink(missing_ok=True)
        self._end_worker("TERM", timeout_s)

    def kill_worker(self) -> None:
        """Kill the worker, and only it, as a crash would; it stays enabled."""
        self._end_worker("KILL", timeout_s=10)

    def move_clock(self, seconds: int) -> None:
        """Let the worker's wall clock be off by *seconds*, within a second and until the next power cut."""
        if not self._settings.movable_clock:
            raise LabError(
                f"{self.name}'s worker goes by the machine's clock; make the lab with movable clocks"
            )
        clock = self.path(WORKER_CLOCK)
        clock.with_suffix(".new").write_text(str(seconds))
        clock.with_suffix(".new").rename(clock)

    def configure(self, settings: str = "") -> None:
        """Let hostler.conf say *settings* beside what it says at first; a worker that runs has to start again."""
        text = etc.contents(self._settings)["hostler/hostler.conf"]
        self.path("/etc/hostler/hostler.conf").write_text(f"{text}\n{settings}")

    def worker_log(self, lines: int = 100) -> str:
        """The end of the worker's log."""
        log = self.path(pid1.WORKER_LOG)
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""

    # Making and removing

    def install(self) -> None:
        """Lay out a new host's disk."""
        for folder in OWN_FOLDERS:
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        (self.directory / "root").chmod(0o700)
        etc.write_etc(self.directory / "etc", self._settings)

    def remove(self) -> None:
        """Cut the power and remove the host's disk."""
        self.power_cut()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _cache(self) -> Path:
        """What the lab's hosts see where the machine has the cache of the guests' kernel."""
        return self.directory.parent.parent / "cache"

    def _specification(self) -> Path:
        for place in OWN_FOLDERS.values():
            Path(place).mkdir(parents=True, exist_ok=True)
        specification = pid1.Specification(
            hostname=self.name,
            address=f"{self.address}/24",
            hardware_address=hardware_address(self.address),
            binds=[
                *((str(self.directory / folder), place) for folder, place in OWN_FOLDERS.items()),
                (str(self._cache), str(CACHE)),
            ],
            kept=[str(CHECKOUT), str(BASE), str(self.directory.parent.parent)],
            disk=str(self.directory / "disk.ext4") if self._disk_size else None,
            environment=HOST_ENVIRONMENT,
            worker=WORKER_WITH_CLOCK if self._settings.movable_clock else WORKER,
        )
        path = self.directory / "host.json"
        path.write_text(json.dumps(asdict(specification)))
        return path

    def _make_disk(self) -> None:
        image = self.directory / "disk.ext4"
        if self._disk_size is not None and not image.exists():
            run(["truncate", "-s", self._disk_size, image])
            # Few inodes: their tables are written in the background, by the gigabyte on a large disk.
            run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-i", str(1 << 20), image])

    def _came_up(self, ready: object) -> bool:
        if self._process.pid is None:
            raise LabError(f"{self.name} died: {(self.directory / 'pid1.log').read_text()[-2000:]}")
        return self.is_on and callable(ready) and bool(ready())

    def _has_own_network(self) -> bool:
        return Path(f"/proc/{self.pid}/ns/net").stat().st_ino != Path("/proc/self/ns/net").stat().st_ino

    def _libvirt_answers(self) -> bool:
        if not self.path(pid1.LIBVIRT_SOCKET).exists():
            return False
        return self.run(["virsh", "-q", "list"], check=False).returncode == 0

    def _worker_looks(self) -> int:
        looks = self.path(pid1.WORKER_LOOKS)
        return int(looks.read_text() or 0) if looks.exists() else 0

    def _end_worker(self, name: str, timeout_s: float) -> None:
        pid = self.worker_pid
        if pid is None:
            return
        self.run(["kill", f"-{name}", str(pid)], check=False)
        wait_until(lambda: self.worker_pid != pid, f"{self.name}: end of the worker", timeout_s)

    def _remember_link(self, **changes: object) -> None:
        (self.directory / "link.json").write_text(json.dumps({**self.link, **changes}))
        if self.is_on:
            self._apply_link()

    def _apply_link(self) -> None:
        link = self.link
        rate = link["rate"]
        self._switch.slow(self.name, self.pid, None if rate is None else str(rate))
        if link["cut"]:
            self._switch.cut(self.name)
        else:
            self._switch.mend(self.name)
