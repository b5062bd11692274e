"""The lab as a whole: its hosts, the switch between them, ZooKeeper, the shared database."""

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.etc import Settings
from lab.guest_kernel import lend_kernel
from lab.host import Host
from lab.places import BASE
from lab.postgres import PostgreSQL
from lab.process import LabError
from lab.switch import Switch, choosing_a_subnet, identity_of
from lab.zookeeper import Ensemble

DEFAULT_DIRECTORY = BASE / "lab"


@dataclass(frozen=True)
class Plan:
    """What a lab is made of; recorded in it, so that later commands find the same."""

    subnet: int
    hosts: int
    #: Of each host's /var/lib/libvirt, as truncate(1) writes it; None: no limit but the machine's.
    disk_size: str | None
    #: What every host's hostler.conf says beside its address and servers.
    settings: str = ""
    #: One, or an ensemble of three.
    zookeepers: int = 1
    #: Keep the records in a PostgreSQL of the lab's own; otherwise in a file that every host sees.
    postgresql: bool = False
    #: Let `lab.host.Host.move_clock` move the wall clocks of the workers.
    movable_clocks: bool = False


class Lab:
    """A lab in a folder of its own; several may be up at once.

    ``with Lab(directory) as lab:`` is `up` and `down`.
    """

    def __init__(
        self,
        directory: Path = DEFAULT_DIRECTORY,
        hosts: int = 2,
        disk_size: str | None = None,
        settings: str = "",
        *,
        zookeepers: int = 1,
        postgresql: bool = False,
        movable_clocks: bool = False,
    ) -> None:
        self.directory = directory.resolve()
        self._wanted = Plan(0, hosts, disk_size, settings, zookeepers, postgresql, movable_clocks)
        self._plan_file = self.directory / "lab.json"

    @property
    def is_up(self) -> bool:
        """Whether the lab stands; one of its hosts may be off all the same."""
        return self._plan_file.exists() and self.zookeeper.is_on

    @property
    def switch(self) -> Switch:
        """The network."""
        return Switch(identity_of(self.directory), self._plan().subnet)

    @property
    def zookeeper(self) -> Ensemble:
        """The boards' server, or servers; `kill` and `start` are for the tests."""
        switch, size = self.switch, self._plan().zookeepers
        return Ensemble(self.directory / "zookeeper", switch.control_address, 2181, size, switch.prefix)

    @property
    def postgresql(self) -> PostgreSQL | None:
        """The records' server, if they are not in a file; `stop`, `kill` and `start` are for the tests."""
        if not self._plan().postgresql:
            return None
        switch = self.switch
        return PostgreSQL(self.directory / "postgresql", switch.control_address, switch.prefix, 5432)

    @property
    def database(self) -> str:
        """SQLAlchemy's address of the records: a file that every host sees, or a server."""
        server = self.postgresql
        return server.url() if server else f"sqlite:///{self.directory}/shared/hostler.db"

    @property
    def hosts(self) -> list[Host]:
        """Every host, on or off."""
        return [self.host(name) for name in _names(self._plan())]

    def host(self, name: str) -> Host:
        """The host called *name*: kvm1, kvm2, ..."""
        plan, switch = self._plan(), self.switch
        names = {each: switch.address(number) for number, each in enumerate(_names(plan), start=1)}
        if name not in names:
            raise LabError(f"no host {name}: there are {', '.join(names)}")
        settings = Settings(
            host=name,
            address=names[name],
            names={**names, "control": switch.control_address},
            database=self.database,
            zookeeper=self.zookeeper.hosts,
            hostler=plan.settings,
            movable_clock=plan.movable_clocks,
        )
        return Host(self.directory / "hosts" / name, switch, settings, plan.disk_size)

    def up(self, workers: bool = False) -> Self:
        """Bring everything up, anew unless it is up; hosts that are off are powered on."""
        if not self.is_up:
            self.down()
            self._install()
        lend_kernel(self.directory / "cache")
        with ThreadPoolExecutor() as pool:
            list(pool.map(Host.power_on, self.hosts))
        if workers:
            self.hosts[0].run(["hostler", "db", "upgrade"])
            for host in self.hosts:
                host.start_worker()
        return self

    def down(self) -> None:
        """End everything and remove it; also what a lab that crashed left behind."""
        if self._plan_file.exists():
            for host in self.hosts:
                host.remove()
            self.zookeeper.kill()
            if self.postgresql:
                self.postgresql.kill()
            self.switch.down()
            shutil.rmtree(self.directory)

    def _install(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if any(self.directory.iterdir()):
            raise LabError(f"{self.directory} holds something that is no lab; name another folder")
        identity = identity_of(self.directory)
        with choosing_a_subnet(identity) as subnet:
            self._plan_file.write_text(json.dumps(asdict(replace(self._wanted, subnet=subnet))))
            self.switch.up()
        (self.directory / "shared").mkdir()
        self.zookeeper.start()
        if self.postgresql:
            self.postgresql.start()
        for host in self.hosts:
            host.install()

    def _plan(self) -> Plan:
        try:
            return Plan(**json.loads(self._plan_file.read_text()))
        except FileNotFoundError:
            raise LabError(f"no lab in {self.directory}: tools/lab up makes one") from None

    def __enter__(self) -> Self:
        try:
            return self.up()
        except BaseException:
            self.down()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def _names(plan: Plan) -> Sequence[str]:
    return [f"kvm{number}" for number in range(1, plan.hosts + 1)]
