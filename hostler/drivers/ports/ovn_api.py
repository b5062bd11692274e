"""OVN as its two databases give it.

Needs the extra ``hostler[ovn]``. Each question has a connection of its own, which asks for the rows in question alone:
what is read is never older than the question, and a large cloud's ports are not kept in memory. Which columns there are
is not asked (ovsdbapp would wait for that for ever), but known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from oslo_config import cfg
from ovs.db.idl import SchemaHelper
from ovs.stream import Stream
from ovsdbapp import exceptions
from ovsdbapp.backend import ovs_idl
from ovsdbapp.backend.ovs_idl import connection
from ovsdbapp.backend.ovs_idl.command import BaseCommand
from ovsdbapp.backend.ovs_idl.transaction import Transaction

from hostler.drivers.ports import libvirt
from hostler.drivers.ports.northbound import LogicalPort, Moved
from hostler.drivers.ports.ovn import OvnPorts
from hostler.errors import BadConfiguration, CloudServiceRefused, ServerUnreachable

REQUESTED = "requested-chassis"
NORTHBOUND, SOUTHBOUND, SERVER = "OVN_Northbound", "OVN_Southbound", "_Server"
PORTS, CHASSIS, DATABASES = "Logical_Switch_Port", "Chassis", "Database"
#: The column of the southbound ``Port_Binding`` that knows of several chassis for a port.
SEVERAL = "additional_chassis"
_MANY = {"min": 0, "max": "unlimited"}
#: The columns that are read, with their types as OVSDB's schemas (RFC 7047) have them.
COLUMNS: dict[str, dict[str, Any]] = {
    PORTS: {
        "name": "string",
        "type": "string",
        "addresses": {"key": "string", **_MANY},
        "options": {"key": "string", "value": "string", **_MANY},
    },
    CHASSIS: {"name": "string", "hostname": "string"},
    DATABASES: {"name": "string", "schema": {"key": "string", "min": 0, "max": 1}},
}


class _Rows(ovs_idl.Backend):
    """A connection's rows. The base class has one connection for all of a process."""

    ovsdb_connection = None

    def __init__(self, made: connection.Connection) -> None:
        self.ovsdb_connection = made
        super().__init__(made, start=False, auto_index=False)


class _AskFor(BaseCommand):
    """Changes what a port asks for, if nobody else has."""

    def __init__(self, rows: _Rows, name: str, chassis: str, instead_of: str) -> None:
        super().__init__(rows)
        self._name, self._chassis, self._instead_of = name, chassis, instead_of

    def run_idl(self, txn: Any) -> None:
        """Change it; the server takes it only if the row is as it is here."""
        row = next(iter(_named(self.api, self._name)), None)
        asks_for = row.options.get(REQUESTED, "") if row is not None else ""
        if row is None or asks_for not in (self._instead_of, self._chassis):
            raise Moved(asks_for)
        row.verify("options")
        row.setkey("options", REQUESTED, self._chassis)


class OvsdbNorthbound:
    """The :class:`~hostler.drivers.ports.northbound.Northbound` of the databases at two remotes.

    *northbound*, *southbound*: ``tcp:10.0.0.1:6641,tcp:10.0.0.2:6641``. *timeout_s*: for each call.
    """

    def __init__(self, northbound: str, southbound: str, timeout_s: float) -> None:
        self._remotes = {NORTHBOUND: northbound, SOUTHBOUND: southbound, SERVER: southbound}
        self._timeout_s = timeout_s

    def knows(self, chassis: str) -> bool:
        """Tell whether there is one of that name or hostname."""
        with self._rows(SOUTHBOUND, CHASSIS, name=chassis, hostname=chassis) as rows:
            return bool(rows.tables[CHASSIS].rows)

    def several(self) -> bool:
        """Tell it by the southbound database's own schema."""
        with self._rows(SERVER, DATABASES, name=SOUTHBOUND) as rows:
            found = [json.loads(text) for row in rows.tables[DATABASES].rows.values() for text in row.schema]
        return any(SEVERAL in schema["tables"]["Port_Binding"]["columns"] for schema in found)

    def port(self, name: str) -> LogicalPort | None:
        """Read the port's row."""
        with self._port(name) as rows:
            return next((_told(row) for row in _named(rows, name)), None)

    def ask_for(self, name: str, chassis: str, instead_of: str) -> None:
        """Change the port's row."""
        with self._port(name) as rows:
            change = Transaction(
                rows, rows.ovsdb_connection, self._timeout_s, check_error=True, log_errors=False
            )
            change.add(_AskFor(rows, name, chassis, instead_of))
            change.commit()

    @contextmanager
    def _port(self, name: str) -> Iterator[_Rows]:
        with self._rows(NORTHBOUND, PORTS, name=name) as rows:
            yield rows

    @contextmanager
    def _rows(self, database: str, table: str, **wanted: str) -> Iterator[_Rows]:
        """Give the rows of a table, as they are now, of which any of these columns is as *wanted*."""
        remote = self._remotes[database]
        with self._failing(database):
            idl = connection.OvsdbIdl(remote, _schema(database, table))
            idl.cond_change(table, [[column, "==", value] for column, value in wanted.items()])
            made = connection.Connection(idl, self._timeout_s)
            try:
                made.start()
                yield _Rows(made)
            finally:
                made.stop(self._timeout_s)
                idl.close()

    @contextmanager
    def _failing(self, database: str) -> Iterator[None]:
        """Tell a database that is away from one that says no."""
        try:
            yield
        except Moved:
            raise
        except exceptions.TimeoutException as error:
            reason = f"it has not answered within {self._timeout_s:g} s"
            raise ServerUnreachable(what=database, where=self._remotes[database], reason=reason) from error
        except RuntimeError as error:
            raise CloudServiceRefused(service="OVN", reason=str(error), hint="ovn-nbctl show") from error


def from_conf(conf: cfg.ConfigOpts) -> OvnPorts:
    """Make the driver of the settings."""
    settings = conf.ovn
    for name in ("northbound", "southbound"):
        if not settings[name]:
            raise BadConfiguration(where="[ovn]", problem=f"{name} is not set, which ports = ovn needs")
    _use_certificates(settings)
    northbound = OvsdbNorthbound(settings.northbound, settings.southbound, settings.timeout)
    return OvnPorts(northbound, libvirt.from_conf(conf), conf.host, settings.hosts)


def _use_certificates(settings: Any) -> None:
    """Show this host's certificate to the databases; Open vSwitch's library has one for a process."""
    if "ssl:" not in f"{settings.northbound},{settings.southbound}":
        return
    for name in ("private_key", "certificate", "ca_certificate"):
        if not settings[name]:
            raise BadConfiguration(where="[ovn]", problem=f"{name} is not set, which ssl: needs")
    Stream.ssl_set_private_key_file(settings.private_key)
    Stream.ssl_set_certificate_file(settings.certificate)
    Stream.ssl_set_ca_cert_file(settings.ca_certificate)


def _named(rows: _Rows, name: str) -> list[Any]:
    return [row for row in rows.tables[PORTS].rows.values() if row.name == name]


def _told(row: Any) -> LogicalPort:
    options: Mapping[str, str] = row.options
    return LogicalPort(row.name, row.type, tuple(row.addresses), options.get(REQUESTED, ""))


def _schema(database: str, table: str) -> SchemaHelper:
    columns = {name: {"type": kind} for name, kind in COLUMNS[table].items()}
    helper = SchemaHelper(
        schema_json={"name": database, "version": "1.0.0", "tables": {table: {"columns": columns}}}
    )
    helper.register_table(table)
    return helper
