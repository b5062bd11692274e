"""A host's domains, files and receivers, compared with the records."""

from __future__ import annotations

from collections.abc import Iterator

from hostler.drivers.files.marked import Marked, MarkKind
from hostler.drivers.images.unpacking import PACKAGES
from hostler.jobboard.doctor import findings
from hostler.jobboard.doctor.findings import Facts, Finding, Severity, fixable, on
from hostler.jobboard.doctor.look import DomainFacts, HostFacts, StateFile, Stray
from hostler.jobboard.doctor.recorded import Fate, Recorded, Standing, whose
from hostler.objects import PowerState

#: What a marked path is called.
_WORDS = {
    MarkKind.KEPT: "the kept copy {path}",
    MarkKind.PART: "the part directory {path}",
    MarkKind.ASIDE: "{path}, which was set aside",
    MarkKind.REMOVAL: "{path}, whose removal was cut short",
    MarkKind.MADE: "the note {path}",
    MarkKind.MARK: "the mark in {path}",
    MarkKind.PROOF: "the token {path}",
}


def examine(facts: HostFacts, recorded: Recorded) -> Iterator[Finding]:
    """Give everything on one host that is not as the records say."""
    host = AtHost(facts, recorded)
    yield from host.files()
    yield from host.state()
    yield from host.receivers()
    yield from host.domains()
    yield from host.bindings()
    yield from host.allocations()
    yield from host.attachments()
    yield from host.packing()


class AtHost:
    """One host's facts beside the records."""

    def __init__(self, facts: HostFacts, recorded: Recorded) -> None:
        self._host = facts.host
        self._facts = facts
        self._recorded = recorded
        self._busy = recorded.busy()
        self._defined = {domain.uuid for domain in facts.domains}

    def _needed(self, migration: str) -> bool:
        """Whether what a migration has here is still its own affair."""
        needed = (Standing.UNDER_WAY, Standing.UNCONFIRMED)
        return (self._host, migration) in self._recorded.debts or self._recorded.standing(migration) in needed

    # -- files --------------------------------------------------------------------------------------------

    def files(self) -> Iterator[Finding]:
        """Give what carries the mark of a migration that is over, or of none that is known."""
        for mark in self._facts.files:
            # On storage that hosts share it may be another host's affair, which owes an undo.
            if self._needed(mark.migration) or self._recorded.owed(mark.migration):
                continue
            fate = self._recorded.fate(mark.migration)
            words = "the logical volume {path}" if mark.volume else _WORDS[mark.kind]
            what = words.format(path=mark.path)
            facts: Facts = {"kind": str(mark.kind), "host": self._host, "object": mark.path}
            facts |= {"migration": mark.migration, "instance": fate.instance}
            doubt = self._doubt(mark, fate)
            if doubt is None:
                comma = "," if "," in what else ""
                yield fixable(text=f"{what}{comma} is left over from {whose(fate)}", **facts)
            else:
                text = f"{what}, from {whose(fate)}: {doubt}"
                yield Finding(text=text, command=self._by_hand(mark), **facts)

    def _doubt(self, mark: Marked, fate: Fate) -> str | None:
        """Return why an operator must look at it first; None for what is proven garbage."""
        if not mark.proven:
            return "its marker does not say the same, or cannot be read"
        if not fate.standing.over:
            return "it is not known to be over"
        undone = fate.standing is Standing.UNDONE
        if mark.kind in (MarkKind.ASIDE, MarkKind.REMOVAL) and (undone or fate.source != self._host):
            return "it may be the server's only copy"
        if mark.kind is MarkKind.PART and undone and mark.placed:
            return f"it has placed {', '.join(mark.placed)}, which is still there"
        return None

    def _by_hand(self, mark: Marked) -> str:
        if mark.volume:
            return on(self._host, "lvs", "-o", "+lv_tags", mark.volume)
        if mark.kind is MarkKind.ASIDE and not mark.home_taken:
            return on(self._host, "mv", "--no-clobber", "--", mark.path, mark.home)
        if mark.kind is MarkKind.ASIDE:
            return on(self._host, "ls", "-ld", "--", mark.path, mark.home)
        path = f"{mark.path}/.hostler-migration" if mark.kind is MarkKind.MARK else mark.path
        return on(self._host, "rm", "-rI", "--", path)

    def state(self) -> Iterator[Finding]:
        """Give what the worker has kept of migrations that are over."""
        for file in self._facts.state:
            if self._needed(file.migration) or self._is_open(file):
                continue
            fate = self._recorded.fate(file.migration)
            what = "the definition" if file.kind == "migrations" else "the record of the copy"
            text = f"{what} in {file.path} is left over from {whose(fate)}"
            facts: Facts = {"kind": f"state-{file.kind}", "host": self._host, "object": file.path}
            facts |= {"migration": file.migration, "instance": fate.instance}
            if fate.standing.over and not self._last_definition(file, fate):
                yield fixable(text=text, **facts)
            elif fate.standing.over:
                command = findings.migration("show", file.migration)
                yield Finding(
                    text=f"{text}; the server is not defined here, and may need it", command=command, **facts
                )
            else:
                command = on(self._host, "rm", "-rI", "--", file.path)
                yield Finding(text=text, command=command, **facts)

    def _is_open(self, file: StateFile) -> bool:
        """Whether the finding about its receiver says the same."""
        return file.kind == "images" and file.migration in self._facts.receivers

    def _last_definition(self, file: StateFile, fate: Fate) -> bool:
        if file.kind != "migrations" or fate.standing is not Standing.UNDONE:
            return False
        server = self._recorded.servers.get(fate.instance)
        return fate.instance not in self._defined and (server is None or server.host == self._host)

    # -- receivers ----------------------------------------------------------------------------------------

    def receivers(self) -> Iterator[Finding]:
        """Give the receivers of migrations that send nothing any more."""
        for migration in self._facts.receivers:
            if not self._receives(migration):
                command = on(self._host, "rm", "-rI", "--", self._home(migration))
                yield self._receiver("receiver", migration, migration, "a receiver is open for", command)
        for stray in self._facts.running:
            if stray.migration not in self._facts.receivers and not self._receives(stray.migration):
                yield self._stray(stray)

    def _home(self, migration: str) -> str:
        kept = (one.path for one in self._facts.state if (one.kind, one.migration) == ("images", migration))
        return next(kept, f"/var/lib/hostler/images/{migration}")

    def _receives(self, migration: str) -> bool:
        under_way = self._recorded.standing(migration) is Standing.UNDER_WAY
        return under_way or (self._host, migration) in self._recorded.debts

    def _stray(self, stray: Stray) -> Finding:
        number = str(stray.process.pid)
        what = f"process {number} is no receiver of the worker's, and takes images for"
        return self._receiver(
            "receiver-process", number, stray.migration, what, on(self._host, "kill", number)
        )

    def _receiver(self, kind: str, thing: str, migration: str, what: str, by_hand: str) -> Finding:
        fate = self._recorded.fate(migration)
        facts: Facts = {"kind": kind, "host": self._host, "object": thing, "text": f"{what} {whose(fate)}"}
        facts |= {"migration": migration, "instance": fate.instance}
        if fate.standing is Standing.UNKNOWN:
            return Finding(command=by_hand, **facts)
        return fixable(**facts)

    def packing(self) -> Iterator[Finding]:
        """Say why images arrive as they are, where they might arrive packed."""
        if reason := self._facts.never_packed:
            text = f"images arrive as they are, never packed: {reason}"
            command = on(self._host, "apt-get", "install", *PACKAGES)
            facts: Facts = {"kind": "never-packed", "host": self._host, "object": self._host}
            yield Finding(text=text, command=command, severity=Severity.INFO, **facts)

    # -- ports and volumes --------------------------------------------------------------------------------

    def bindings(self) -> Iterator[Finding]:
        """Give the bindings of servers that are here which lead elsewhere, and belong to no migration any more."""
        for one in self._facts.bindings:
            yield from self._astray("port-binding", one.instance, one.port, one.text, one.command)

    def attachments(self) -> Iterator[Finding]:
        """Give the attachments of servers that are here which they do not use, and no migration needs any more."""
        for one in self._facts.attachments:
            yield from self._astray("volume-attachment", one.instance, one.attachment, one.text, one.command)

    def _astray(self, kind: str, instance: str, thing: str, text: str, command: str) -> Iterator[Finding]:
        facts: Facts = {"kind": kind, "host": self._host}
        server = self._recorded.servers.get(instance)
        if not thing:
            command = findings.worker_log(self._host)
            yield Finding(object=self._host, text=text, command=command, **facts)
        elif server and server.host == self._host and instance not in self._waiting():
            text = f"{text}, and server {server.name} is here, with no migration under way"
            yield Finding(object=thing, text=text, command=command, instance=instance, **facts)

    def _waiting(self) -> set[str]:
        """Return the servers whose migrations may still need whatever leads elsewhere."""
        return self._busy | self._recorded.unconfirmed().keys()

    # -- claims -------------------------------------------------------------------------------------------

    def allocations(self) -> Iterator[Finding]:
        """Give what is held of this host by our servers that are not here, and by migrations that are over."""
        for one in self._facts.consumers:
            facts: Facts = {"kind": "allocation", "host": self._host}
            if not one.uuid:
                command = findings.worker_log(self._host)
                yield Finding(object=self._host, text=one.text, command=command, **facts)
                continue
            if holder := self._holder(one.uuid):
                command = f"openstack resource provider allocation show {one.uuid}"
                text = f"{holder} holds a part of this host in Placement"
                yield Finding(object=one.uuid, text=text, command=command, **facts)

    def _holder(self, uuid: str) -> str | None:
        """Return whose a consumer is that should have nothing here; None for one that should, and for a stranger."""
        server = self._recorded.servers.get(uuid)
        if server is not None:
            here = server.host == self._host or uuid in self._waiting()
            return None if here else f"server {server.name}, which is on {server.host},"
        fate = self._recorded.fate(uuid)
        known = fate.standing is not Standing.UNKNOWN
        return whose(fate) if known and not self._needed(uuid) else None

    # -- domains ------------------------------------------------------------------------------------------

    def domains(self) -> Iterator[Finding]:
        """Give the domains that are ours and should not be, or not so; and those that nobody has recorded."""
        for domain in self._facts.domains:
            if domain.uuid in self._busy or self._at_work(domain):
                continue
            if domain.migration:
                yield from self._marked(domain, self._recorded.fate(domain.migration))
            if domain.uuid not in self._recorded.servers and not self._abandoned(domain):
                yield self._about(
                    "no-record",
                    domain,
                    "is in no record: its worker should have seen it within a minute",
                    findings.worker_log(self._host),
                )
        yield from self._missing()

    def _at_work(self, domain: DomainFacts) -> bool:
        return bool(domain.migration) and (
            self._recorded.standing(domain.migration or "") is Standing.UNDER_WAY
        )

    def _marked(self, domain: DomainFacts, fate: Fate) -> Iterator[Finding]:
        if fate.standing is Standing.UNKNOWN:
            text = f"carries the mark of migration {fate.uuid}, which the records do not know"
            yield self._about("unknown-mark", domain, text, on(self._host, "virsh", "edit", domain.uuid))
        elif fate.standing is Standing.UNCONFIRMED:
            yield from self._unconfirmed(domain, fate)
        elif self._abandoned(domain):
            yield self._safe("abandoned-guest", domain, f"never ran, and is left over from {whose(fate)}")
        elif self._is_home(domain):
            yield self._safe("left-mark", domain, f"still carries the mark of {whose(fate)}")

    def _unconfirmed(self, domain: DomainFacts, fate: Fate) -> Iterator[Finding]:
        if fate.dest != self._host:
            return
        if domain.power_state is PowerState.PAUSED:
            command = on(self._host, "virsh", "resume", domain.uuid)
            yield self._about("paused", domain, f"is paused after {whose(fate)}", command)
        if domain.autostart:
            command = on(self._host, "virsh", "autostart", "--disable", domain.uuid)
            yield self._about(
                "autostart", domain, f"has autostart on before the end of {whose(fate)}", command
            )

    def _abandoned(self, domain: DomainFacts) -> bool:
        """Whether it is a guest of ours that has executed nothing, and whose migration is over."""
        over = bool(domain.migration) and self._recorded.standing(domain.migration or "").over
        paused = domain.power_state is PowerState.PAUSED and not domain.persistent
        return over and paused and not self._is_home(domain)

    def _is_home(self, domain: DomainFacts) -> bool:
        server = self._recorded.servers.get(domain.uuid)
        return server is not None and server.host == self._host

    def _missing(self) -> Iterator[Finding]:
        waiting = self._recorded.unconfirmed()
        for uuid, server in self._recorded.servers.items():
            if server.host != self._host or uuid in self._defined or uuid in self._busy:
                continue
            facts: Facts = {"kind": "no-domain", "host": self._host, "object": uuid, "instance": uuid}
            text = f"server {server.name} ({uuid}) is not defined on {self._host}, where its record has it"
            if (fate := waiting.get(uuid)) is not None:
                text += f"; what {fate.source} set aside is its only other copy"
                command = findings.migration("show", fate.uuid)
                yield Finding(text=text, command=command, severity=Severity.ERROR, **facts)
            else:
                yield Finding(text=text, command=f"hostler server show {uuid}", **facts)

    def _about(self, kind: str, domain: DomainFacts, text: str, command: str) -> Finding:
        return Finding(
            kind=kind,
            host=self._host,
            object=domain.uuid,
            text=f"domain {domain.name} ({domain.uuid}) {text}",
            command=command,
            migration=domain.migration or "",
            instance=domain.uuid,
        )

    def _safe(self, kind: str, domain: DomainFacts, text: str) -> Finding:
        return fixable(
            kind=kind,
            host=self._host,
            object=domain.uuid,
            text=f"domain {domain.name} ({domain.uuid}) {text}",
            migration=domain.migration or "",
            instance=domain.uuid,
        )
