"""What a guest wrote, as it said itself on its consoles (see ``lab/guest-init``).

Each boot says its number, how many lines of the journal it found and how many of them are wrong; each line is
acknowledged once it is on the disk for good. A copy that is not the newest shows at its first boot: it lacks
acknowledged lines. Two copies that ran show as two boots of one number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lab import Guest, Host

BOOT = re.compile(r"GUEST: MARKER=(\S+) BOOTS=(\d+) ")
JOURNAL = re.compile(r"GUEST: JOURNAL BOOTS=(\d+) LINES=(\d+) BAD=(\d+)\r?\n")
ACK = re.compile(r"GUEST: ACK (\d+) (\d+)\r?\n")


@dataclass(frozen=True)
class Boot:
    """One boot, on one host."""

    host: str
    number: int
    lines: int
    bad: int


@dataclass
class Journal:
    """One guest's, over all hosts."""

    guest: Guest
    #: What an operator has dropped on purpose: on which host, up to which place of the console, boots above which.
    dropped: list[tuple[str, int, int]] = field(default_factory=list)

    def drop(self, host: Host, source: Host) -> None:
        """Note that an operator gave up what the guest wrote on *host* since it left *source*."""
        last = max((boot.number for boot in self._boots(source)), default=0)
        self.dropped.append((host.name, len(host.console(self.guest.name)), last))

    def problems(self, hosts: Sequence[Host]) -> list[str]:
        """What is wrong, as sentences."""
        boots = sorted((boot for host in hosts for boot in self._boots(host)), key=lambda boot: boot.number)
        acknowledged = [ack for host in hosts for ack in self._acknowledged(host)]
        found = [f"a marker that is not its own: {marker}" for marker in self._strange_markers(hosts)]
        for before, boot in zip([None, *boots], boots, strict=False):
            if before is not None and before.number == boot.number:
                found.append(f"boot {boot.number} happened on {before.host} and on {boot.host}")
            due = max((line for line, number in acknowledged if number < boot.number), default=0)
            if boot.lines < due:
                found.append(f"boot {boot.number} on {boot.host} found {boot.lines} lines, not {due}")
            if boot.bad:
                found.append(f"boot {boot.number} on {boot.host} found {boot.bad} wrong lines")
        return [f"{self.guest.name}: {problem}" for problem in found]

    def acknowledged(self, hosts: Sequence[Host]) -> int:
        """The last line that was acknowledged anywhere."""
        return max((line for host in hosts for line, _ in self._acknowledged(host)), default=0)

    def _boots(self, host: Host) -> list[Boot]:
        return [
            Boot(host.name, int(match[1]), int(match[2]), int(match[3]))
            for match in self._matches(host, JOURNAL, 1)
        ]

    def _acknowledged(self, host: Host) -> list[tuple[int, int]]:
        """Line and boot."""
        return [(int(match[1]), int(match[2])) for match in self._matches(host, ACK, 2)]

    def _matches(self, host: Host, pattern: re.Pattern[str], group: int) -> list[re.Match[str]]:
        """What was said on *host*, without what was dropped; *group* holds the boot's number."""
        console = host.console(self.guest.name)
        dropped = [(place, boot) for name, place, boot in self.dropped if name == host.name]
        return [
            match
            for match in pattern.finditer(console)
            if not any(match.start() < place and int(match[group]) > boot for place, boot in dropped)
        ]

    def _strange_markers(self, hosts: Sequence[Host]) -> set[str]:
        said = {match[1] for host in hosts for match in BOOT.finditer(host.console(self.guest.name))}
        return said - {self.guest.marker}
