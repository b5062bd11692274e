"""The hosts' domains, compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hostler.jobboard.doctor.findings import Finding, Severity, on
from hostler.jobboard.doctor.look import DomainFacts, HostFacts
from hostler.jobboard.doctor.recorded import Recorded
from hostler.objects import PowerState
from hostler.records.models import Instance


def examine(looks: Mapping[str, HostFacts], recorded: Recorded) -> Iterator[Finding]:
    """Give each server that is on a host other than its record's. *looks*: what was seen, by host."""
    busy = recorded.busy()
    for host, facts in looks.items():
        for domain in facts.domains:
            server = recorded.servers.get(domain.uuid)
            if server is None or server.host == host or domain.uuid in busy:
                continue
            if _never_ran(domain, recorded):  # the host itself has said so
                continue
            yield _elsewhere(host, domain, server, _defined(looks, server))


def _never_ran(domain: DomainFacts, recorded: Recorded) -> bool:
    paused = domain.power_state is PowerState.PAUSED and not domain.persistent
    return paused and bool(domain.migration) and recorded.standing(domain.migration or "").over


def _defined(looks: Mapping[str, HostFacts], server: Instance) -> bool | None:
    """Tell whether the record's host has the server, too; None if that host could not be looked at."""
    facts = looks.get(server.host)
    return None if facts is None else any(one.uuid == server.uuid for one in facts.domains)


def _elsewhere(host: str, domain: DomainFacts, server: Instance, twice: bool | None) -> Finding:
    """Say that a server is where it should not be; its images stay, whatever the operator types."""
    active = domain.power_state.active
    name = f"server {server.name} ({server.uuid})"
    if twice:
        text = f"{name} is defined on two hosts: on {server.host}, as its record says, and on {host}"
        text += ", where it runs" if active else ", where it is off"
    else:
        does = "runs" if active else "is defined"
        text = f"{name} {does} on {host}, but its record has it on {server.host}"
        text += ", which could not be looked at" if twice is None else ", where it is not defined"
    command = f"hostler server show {server.uuid}"
    if twice and active:
        command = on(host, "virsh", "shutdown", server.uuid)
    elif twice:
        command = on(host, "virsh", "undefine", "--keep-nvram", server.uuid)
    return Finding(
        kind="defined-twice" if twice else "elsewhere",
        host=host,
        object=server.uuid,
        text=text,
        command=command,
        severity=Severity.ERROR,
        instance=server.uuid,
        migration=domain.migration or "",
    )


def unseen(host: str, reason: str, command: str) -> Finding:
    """Say that a host cannot be looked at."""
    return Finding(
        kind="unseen",
        host=host,
        object=host,
        text=f"{host} cannot be looked at: {reason}",
        command=command,
        severity=Severity.ERROR,
    )
