"""A private OVN: its two databases, northd, and two hosts, each with an Open vSwitch and a controller of its own.

The switches have the datapath ``dummy``: ports are claimed and given flows as anywhere, and no packet is sent.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from lab.process import Daemon, LabError, run, wait_until
from lab.services.service import PATH, Server
from lab.sockets import free_port

#: The chassis.
HOSTS = ("kvm1", "kvm2")
SCHEMAS = Path("/usr/share/ovn")
SWITCH = "lab"


class Ovn(Server):
    """Who may ask is not checked. `port` is the northbound database's."""

    name = "ovn"

    def __init__(self, directory: Path, address: str = "") -> None:
        super().__init__(directory, address)
        self.southbound_port = int(self._recorded("southbound-port") or free_port(self.address))

    @property
    def northbound(self) -> str:
        """Where the northbound database is, as OVN's programs name it."""
        return f"tcp:{self.address}:{self.port}"

    @property
    def southbound(self) -> str:
        """Where the southbound one is."""
        return f"tcp:{self.address}:{self.southbound_port}"

    def nbctl(self, *words: str) -> str:
        """Ask or change the northbound database, and wait until the southbound one knows."""
        return run(["ovn-nbctl", f"--db={self.northbound}", "--wait=sb", *words]).strip()

    def sbctl(self, *words: str) -> str:
        """Ask the southbound database."""
        return run(["ovn-sbctl", f"--db={self.southbound}", *words]).strip()

    def add_port(self, name: str, mac: str, asks_for: str = "", kind: str = "") -> None:
        """Make a logical port."""
        request = [f"options:requested-chassis={asks_for}"] if asks_for else []
        facts = ["--", "set", "Logical_Switch_Port", name, f'type="{kind}"', *request]
        self.nbctl("--may-exist", "ls-add", SWITCH, "--", "lsp-add", SWITCH, name, *facts)
        self.nbctl("lsp-set-addresses", name, mac)

    def plug(self, host: str, name: str) -> None:
        """Plug an interface of that name into the host's switch, as QEMU does when a guest starts."""
        facts = ["set", "Interface", name, "type=dummy", f"external_ids:iface-id={name}"]
        self._vsctl(host, "add-port", "br-int", name, "--", *facts)

    def unplug(self, host: str, name: str) -> None:
        """Take it out."""
        self._vsctl(host, "--if-exists", "del-port", "br-int", name)

    def chassis_of(self, name: str) -> str | None:
        """Return the host that has taken a port; None if none has."""
        found = self._southbound("Port_Binding", "chassis", f"logical_port={name}")
        names = {uuid: host for host, uuid in self._chassis().items()}
        return names.get(found[0]) if found else None

    # -- how it starts ------------------------------------------------------------------------------------

    def start(self, timeout_s: float = 120) -> None:
        """Start it, and its hosts once northd has filled the southbound database: a controller dies without."""
        if self.pid is not None:
            return
        super().start(timeout_s)
        for number, host in enumerate(HOSTS, 1):
            self._start_host(host, f"127.0.0.{10 + number}")
        wait_until(
            lambda: set(self._chassis()) == set(HOSTS), f"the chassis of {self.name}", timeout_s, pause_s=0.1
        )

    def _prepare(self) -> None:
        (self.directory / "southbound-port").write_text(str(self.southbound_port))
        self._database("nb", self.directory / "nb.db", SCHEMAS / "ovn-nb.ovsschema")
        self._database("sb", self.directory / "sb.db", SCHEMAS / "ovn-sb.ovsschema")
        self._run_daemon("sb", *self._server("sb", self.southbound_port))
        remotes = [f"--ovnnb-db={self.northbound}", f"--ovnsb-db={self.southbound}"]
        self._run_daemon("northd", "ovn-northd", f"--unixctl={self.directory}/northd.ctl", *remotes)

    def _command(self) -> tuple[list[str | Path], Mapping[str, object]]:
        return list(self._server("nb", self.port)), {}

    def _greeting(self) -> Mapping[str, object]:
        try:
            self.nbctl("sync")
        except LabError:
            return {}
        return {"northd": "has heard"}

    def _release(self) -> None:
        for record in sorted((self.directory / "daemons").glob("*.json"), reverse=True):
            Daemon(record).end()

    def _server(self, name: str, port: int) -> tuple[str | Path, ...]:
        control, remote = f"--unixctl={self.directory}/{name}.ctl", f"--remote=ptcp:{port}:{self.address}"
        return "/usr/sbin/ovsdb-server", "--no-chdir", control, remote, self.directory / f"{name}.db"

    def _start_host(self, host: str, address: str) -> None:
        home = self.directory / host
        home.mkdir(exist_ok=True)
        for left in ("db.sock", "br-int.mgmt"):
            (home / left).unlink(missing_ok=True)
        self._database(host, home / "conf.db", Path("/usr/share/openvswitch/vswitch.ovsschema"))
        local, control = f"unix:{home}/db.sock", f"--unixctl={home}/db.ctl"
        remote = f"--remote=punix:{home}/db.sock"
        self._run_daemon(
            f"{host}-db", "ovsdb-server", "--no-chdir", control, remote, home / "conf.db", host=host
        )
        wait_until((home / "db.sock").exists, f"the switch's database of {host}", 30, pause_s=0.02)
        self._vsctl(host, "--no-wait", "init")
        facts = {
            "system-id": host,
            "hostname": host,
            "ovn-remote": self.southbound,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": address,
        }
        words = [f"external_ids:{name}={json.dumps(value)}" for name, value in facts.items()]
        bridge = [
            "--",
            "--may-exist",
            "add-br",
            "br-int",
            "--",
            "set",
            "bridge",
            "br-int",
            "datapath_type=dummy",
        ]
        self._vsctl(host, "--no-wait", "set", "Open_vSwitch", ".", *words, *bridge)
        dummy = ["--disable-system", "--enable-dummy", f"--unixctl={home}/switch.ctl"]
        self._run_daemon(f"{host}-switch", "ovs-vswitchd", *dummy, local, host=host)
        wait_until((home / "br-int.mgmt").exists, f"the switch of {host}", 30, pause_s=0.02)
        self._run_daemon(f"{host}-controller", "ovn-controller", local, host=host)

    def _database(self, name: str, file: Path, schema: Path) -> None:
        if not schema.exists():
            raise LabError(f"{schema} is not there: tools/install openstack ovn")
        if not file.exists():
            run(["ovsdb-tool", "create", file, schema])

    def _run_daemon(self, name: str, *command: str | Path, host: str = "") -> None:
        home = self.directory / host
        places = dict.fromkeys(("OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR"), home)
        (self.directory / "daemons").mkdir(exist_ok=True)
        daemon = Daemon(self.directory / "daemons" / f"{name}.json")
        alone = self._alone(PATH=f"{PATH}:{SCHEMAS}/scripts", **places)
        daemon.start([*alone, *command], self.directory / f"{name}.log")

    def _vsctl(self, host: str, *words: str) -> None:
        run(["ovs-vsctl", f"--db=unix:{self.directory}/{host}/db.sock", "--timeout=30", *words])

    def _chassis(self) -> dict[str, str]:
        told = self.sbctl("--format=json", "--columns=hostname,_uuid", "list", "Chassis")
        return {host: uuid for host, (_, uuid) in json.loads(told)["data"]}

    def _southbound(self, table: str, column: str, condition: str) -> list[str]:
        told = self.sbctl("--bare", f"--columns={column}", "find", table, condition)
        return told.split()
