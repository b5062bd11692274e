"""Mending what a host has: by its own worker, which has just found it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostler.errors import ForeignObject, MigrationError
from hostler.jobboard.doctor.findings import Finding
from hostler.jobboard.doctor.look import HostFacts, all_domains
from hostler.jobboard.doctor.recorded import Standing, standing_of
from hostler.objects import PowerState
from hostler.records.database import Database
from hostler.records.models import Instance
from hostler.tasks.base import Drivers

#: Seconds until a guest that was told to end must have ended.
PATIENCE_S = 10.0


@dataclass
class Hands:
    """What mending a host takes."""

    host: str
    database: Database
    drivers: Drivers
    facts: HostFacts  #: as it has just looked

    def mend(self, finding: Finding) -> None:
        """Do it; raises what keeps it from being done."""
        self._check_standing(finding)
        _MENDERS[finding.kind](self, finding)

    def _check_standing(self, finding: Finding) -> None:
        """See once more that the migration is over, and that no other works on the server."""
        with self.database.reading() as session:
            standing = standing_of(session, finding.migration)
        closed = finding.kind in ("receiver", "receiver-process") and standing is Standing.UNCONFIRMED
        if not (standing.over or closed):
            raise MigrationError(f"migration {finding.migration} is {standing}")

    def file(self, finding: Finding) -> None:
        """Remove a marked path, unless a server uses it."""
        mark = next(
            one for one in self.facts.files if one.path == finding.object and one.kind == finding.kind
        )
        self.drivers.files.remove_marked(mark, all_domains(self.drivers.hypervisor))

    def state(self, finding: Finding) -> None:
        """Remove what was kept of a migration under ``state_path``."""
        path = Path(finding.object)
        if finding.kind == "state-images":
            self.drivers.receiver.forget(finding.migration)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise ForeignObject(what=finding.object, host=self.host)
        if path.exists():
            shutil.rmtree(path)

    def receiver(self, finding: Finding) -> None:
        """End a receiver; its manifests go with the migration."""
        with self.database.reading() as session:
            over = standing_of(session, finding.migration).over
        (self.drivers.receiver.forget if over else self.drivers.receiver.close)(finding.migration)

    def process(self, finding: Finding) -> None:
        """End a process that takes images."""
        for stray in self.facts.running:
            if str(stray.process.pid) == finding.object and stray.migration == finding.migration:
                stray.process.end()

    def unmark(self, finding: Finding) -> None:
        """Take the mark off a server's domain."""
        self.drivers.hypervisor.remove_mark(finding.instance, finding.migration)

    def guest(self, finding: Finding) -> None:
        """End a guest that has executed nothing."""
        hypervisor = self.drivers.hypervisor
        with self.database.reading() as session:
            server = session.get(Instance, finding.instance)
        domain = hypervisor.describe(finding.instance)
        never_ran = domain.power_state is PowerState.PAUSED and not domain.persistent
        if not never_ran or domain.migration != finding.migration or (server and server.host == self.host):
            raise ForeignObject(what=f"domain {domain.name}", host=self.host)
        hypervisor.destroy(finding.instance)
        if not hypervisor.wait_until_off(finding.instance, PATIENCE_S):
            raise MigrationError(f"the guest {finding.instance} does not end")


_MENDERS: dict[str, Callable[[Hands, Finding], None]] = {
    "kept": Hands.file,
    "part": Hands.file,
    "aside": Hands.file,
    "removal": Hands.file,
    "made": Hands.file,
    "mark": Hands.file,
    "proof": Hands.file,
    "state-migrations": Hands.state,
    "state-images": Hands.state,
    "receiver": Hands.receiver,
    "receiver-process": Hands.process,
    "left-mark": Hands.unmark,
    "abandoned-guest": Hands.guest,
}
