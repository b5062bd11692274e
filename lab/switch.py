"""The network between the hosts: a bridge in its own namespace, a cable to each host and to the machine.

``10.77.N.1``, ``.2``, ... are the hosts, ``.254`` the switch (ZooKeeper listens there), ``.253`` the machine.
"""

import fcntl
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.places import BASE
from lab.process import LabError, run

#: Last number of the machine's own address: what listens there is reached from the hosts.
MACHINE = 253


@dataclass(frozen=True)
class Switch:
    """A lab's switch; its names hold a digest of the lab's folder, so that labs do not meet."""

    #: Eight hex digits.
    identity: str
    #: The third number of its addresses.
    subnet: int

    @property
    def namespace(self) -> str:
        """Of the network namespace, as in `ip netns`."""
        return f"hostler-{self.identity}"

    def address(self, number: int) -> str:
        """The address with this last number."""
        return f"10.77.{self.subnet}.{number}"

    @property
    def control_address(self) -> str:
        """Where the lab's servers listen: reached from the hosts and from the machine."""
        return self.address(254)

    @property
    def prefix(self) -> list[str]:
        """Makes a command run at the switch; keeps the pid."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}"]

    def up(self) -> None:
        """Make the switch anew."""
        self.down()
        run(["ip", "netns", "add", self.namespace])
        self._ip("link", "set", "lo", "up")
        # Without an address of its own a bridge takes its lowest port's, and changes it when a host is unplugged.
        self._ip("link", "add", "br0", "address", hardware_address(self.control_address), "type", "bridge")
        self._ip("addr", "add", f"{self.control_address}/24", "dev", "br0")
        self._ip("link", "set", "br0", "up")
        outside = f"hl{self.identity}"
        run(
            ["ip", "link", "add", outside, "type", "veth", "peer", "name", "machine", "netns", self.namespace]
        )
        run(["ip", "addr", "add", f"{self.address(MACHINE)}/24", "dev", outside])
        run(["ip", "link", "set", outside, "up"])
        self._ip("link", "set", "machine", "master", "br0", "up")

    def down(self) -> None:
        """Remove the switch with every cable; asking twice is asking once."""
        if Path("/run/netns", self.namespace).exists():
            run(["ip", "netns", "del", self.namespace])
        # The namespace itself ends a moment later, and its cables with it; a new one must not meet the old.
        if Path(f"/sys/class/net/hl{self.identity}").exists():
            _forget(["ip", "link", "del", f"hl{self.identity}"])

    def plug(self, host: str, pid: int) -> None:
        """Lay a new cable to the host whose first process is *pid*; there it is called eth0."""
        self.unplug(host)
        self._ip("link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._ip("link", "set", host, "master", "br0", "up")

    def unplug(self, host: str) -> None:
        """Take the cable away."""
        _forget(["ip", "-n", self.namespace, "link", "del", host])

    def cut(self, host: str) -> None:
        """Let nothing through, either way; the host's end loses its carrier too."""
        self._ip("link", "set", host, "down")

    def mend(self, host: str) -> None:
        """Undo `cut`."""
        self._ip("link", "set", host, "up")

    def slow(self, host: str, pid: int, rate: str | None) -> None:
        """Limit each direction to *rate* as tc(8) writes it (10mbit, 50mbps); None lifts the limit."""
        ends = (["tc", "-n", self.namespace], host), (["nsenter", "-t", str(pid), "-n", "tc"], "eth0")
        for tc, device in ends:
            _forget([*tc, "qdisc", "del", "dev", device, "root"])
            if rate is not None:
                # The bucket must hold one segment as offloading makes them (64 KiB), else nothing passes.
                shape = ["tbf", "rate", rate, "burst", "256kb", "latency", "200ms"]
                run([*tc, "qdisc", "add", "dev", device, "root", *shape])

    def _ip(self, *words: str) -> None:
        run(["ip", "-n", self.namespace, *words])


def hardware_address(address: str) -> str:
    """The hardware address that belongs to an IPv4 address: the same after each boot, as a real card's."""
    return "02:00:" + ":".join(f"{int(number):02x}" for number in address.split("."))


def identity_of(directory: Path) -> str:
    """What a lab's names hold to differ from another lab's."""
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:8]


@contextmanager
def choosing_a_subnet(identity: str) -> Iterator[int]:
    """A third number that no interface of the machine uses; nobody else chooses while the block runs."""
    BASE.mkdir(parents=True, exist_ok=True)
    with (BASE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        used = {int(found) for found in re.findall(r"inet 10\.77\.(\d+)\.", run(["ip", "-4", "-o", "addr"]))}
        first = int(identity, 16)
        yield next(number % 256 for number in range(first, first + 256) if number % 256 not in used)


def _forget(argv: list[str]) -> None:
    """Run a command that takes away what may not be there."""
    try:
        run(argv)
    except LabError:
        return
