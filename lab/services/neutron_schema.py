"""Make Neutron's tables and its agents' rows; runs in Neutron's environment, not in ours.

``neutron-db-manage upgrade`` fails on PostgreSQL (its revisions speak MySQL), so that the tables are made from the
models, and are declared to be of the newest revision.

Arguments: the database's URL, the hosts as JSON, and Neutron's settings.
"""

import datetime
import json
import sys
from typing import Any

import sqlalchemy
from neutron.db.migration import cli
from neutron.db.migration.models import head  # noqa: F401 - knows all tables
from neutron.db.models.agent import Agent
from neutron_lib.db import model_base
from sqlalchemy.orm import Session

AGENT = {
    "agent_type": "Open vSwitch agent",
    "binary": "neutron-openvswitch-agent",
    "topic": "N/A",
    "admin_state_up": True,
}


def main(url: str, hosts: list[str], files: list[str]) -> None:
    """Make what is not there yet."""
    engine = sqlalchemy.create_engine(url)
    if not sqlalchemy.inspect(engine).has_table("ports"):
        model_base.BASEV2.metadata.create_all(engine)
        stamp(files)
    with Session(engine) as session:
        session.query(Agent).delete()
        session.add_all(agent(host, number) for number, host in enumerate(hosts, start=1))
        session.commit()


def agent(host: str, number: int) -> Any:
    """Return the row of an agent that has just reported."""
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    configurations = {
        "tunnel_types": ["vxlan"],
        "tunneling_ip": f"127.0.0.{number}",
        "bridge_mappings": {},
        "datapath_type": "system",
        "ovs_hybrid_plug": False,
        "integration_bridge": "br-int",
    }
    times = dict.fromkeys(("created_at", "started_at", "heartbeat_timestamp"), now)
    return Agent(**AGENT, **times, host=host, configurations=json.dumps(configurations))


def stamp(files: list[str]) -> None:
    """Say that the tables are as the newest revision has them."""
    sys.argv = ["neutron-db-manage", *(f"--config-file={file}" for file in files), "stamp", "heads"]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:])
