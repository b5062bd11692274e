"""Every error of hostler, sorted by what the operator does next.

::

    HostlerError
    ├── Refused              nothing was changed: mend the cause, ask again          (exit code 3)
    ├── Passing              a server or peer did not answer; asked again by itself  (exit code 1)
    ├── Failed               a step failed: its migration was, or is being, undone   (exit code 4)
    └── NeedsOperator        parked; the error names the commands that resolve it    (exit code 5)

    Interrupted              not an error of the step: its leg must stop here and now. The step stays
    ├── Fenced               RUNNING and is carried out again by whoever claims the job next. It derives
    ├── SessionLost          from BaseException, since TaskFlow answers every Exception by undoing the flow.
    ├── Unreachable
    ├── Stopping
    └── Park                 the leg stops, and the job leaves the board for the operator

An error carries its facts as attributes and builds its sentence from them; *hint* is what to type next::

    [on HOST: ]COMMAND[; what is to be known of it]

Every refusal has one, and its command is one of hostler's or one that hosts have. It is the error's second argument:
TaskFlow keeps an error's arguments, and so it is known of one that was raised in a step.
The names of the leaves are Nova's wherever Nova has one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar


class HostlerError(Exception):
    """The root of what hostler raises on purpose.

    A leaf declares *template*, a :meth:`str.format` text over its keyword arguments, and *hint_template*, another one:
    the command that leads out of it. There each argument is a word that a shell takes as it is.
    """

    template: ClassVar[str] = "{message}"
    hint_template: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None, /, **facts: object) -> None:
        if message is not None:
            facts.setdefault("message", message)
        self.facts = facts
        self.sentence = message if message is not None else self.template.format(**facts)
        super().__init__(self.sentence, self.hint)

    def __getattr__(self, name: str) -> object:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)

    def __str__(self) -> str:
        return self.sentence

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.sentence, self.facts))

    @property
    def hint(self) -> str:
        """The next thing to type, or the empty string."""
        given = self.facts.get("hint")
        if isinstance(given, str):
            return given
        try:
            return self.hint_template.format(**{name: _word(fact) for name, fact in self.facts.items()})
        except (KeyError, IndexError):
            return ""


def _word(fact: object) -> str:
    """Return *fact* as the last words of a command: a name may be anybody's text, and begin with a dash."""
    word = shlex.quote(str(fact))
    return f"-- {word}" if word.startswith("-") else word


def _rebuild(kind: type[HostlerError], sentence: str, facts: dict[str, object]) -> HostlerError:
    error = kind.__new__(kind)
    error.facts = facts
    error.sentence = sentence
    Exception.__init__(error, sentence, error.hint)
    return error


def kept_hint(failure: Mapping[str, Any]) -> str:
    """Return the hint of the error whose record TaskFlow's *failure* is; empty where it has none.

    Another's error has arguments of its own, and versions up to 0.1 have kept the sentence alone.
    """
    kinds = failure.get("exc_type_names") or ()
    arguments: Sequence[object] = failure.get("exc_args") or ()
    return str(arguments[1]) if "hostler.errors.HostlerError" in kinds and len(arguments) > 1 else ""


def and_then(hint: str, command: str) -> str:
    """Return *hint*, which says how to mend the cause, with the command that is to be typed after it."""
    return f"{hint}; then: {command}" if hint else command


# -- refused: nothing was changed -------------------------------------------------------------------------


class Refused(HostlerError):
    """Asked for something that cannot be done as things are; nothing was changed."""

    exit_code = 3


class InstanceNotFound(Refused):
    template = "no server is called {name!r}, and none has that UUID"
    hint_template = "hostler server list"


class AmbiguousName(Refused):
    """Several servers share the name. *candidates*: their UUIDs with their hosts."""

    template = "{name!r} names {count} servers: {candidates}"
    hint_template = "hostler server list; the UUID of the one that is meant says which"


class ComputeHostNotFound(Refused):
    template = "no host is called {name!r}"
    hint_template = "hostler host list"


class MigrationNotFound(Refused):
    template = "no migration is called {name!r}"
    hint_template = "hostler migration list"


class MigrationStateNotKnown(Refused):
    template = "no migration is ever {state!r}; there are: {known}"
    hint_template = "hostler migration list --state parked"


class FlowNotFound(Refused):
    template = "no flow is called {name!r}; there are: {known}"
    hint_template = "hostler flow graph cold_migration"


class UnableToMigrateToSelf(Refused):
    template = "server {server!r} is on {host} already"
    hint_template = "hostler host list"


class FlavorNotFound(Refused):
    template = "no flavor is called {name!r}"
    hint_template = "hostler flavor list"


class FlavorExists(Refused):
    template = "there is a flavor {name!r} already"
    hint_template = "hostler flavor list"


class FlavorInUse(Refused):
    """*users*: servers that have it, and migrations that may still give it or give it back."""

    template = "flavor {name!r} is used by {users}"
    hint_template = "hostler server resize SERVER --flavor ANOTHER"


class InvalidFlavor(Refused):
    template = "flavor {name!r}: {problem}"
    hint_template = "hostler flavor create --help"


class CannotResizeToSameFlavor(Refused):
    template = "server {server!r} has flavor {flavor!r} already"
    hint_template = "hostler flavor list"


class CannotResizeDisk(Refused):
    """A disk never shrinks: what lies at its end would be lost."""

    template = "flavor {flavor!r} has {new_gb} GiB of {role} disk, server {server!r} has {old_gb} GiB: no disk shrinks"
    hint_template = "hostler flavor list"


class CannotResizeToSameHost(Refused):
    template = "server {server!r} is on {host}, and [DEFAULT] allow_resize_to_same_host is off"
    hint_template = "hostler server resize --flavor {flavor} --to HOST {server}"


class HostUnavailable(Refused):
    """Nobody works for that host at present."""

    template = "no worker is alive on {host}"
    hint_template = "on {host}: systemctl start hostler-worker"


class WorkerRuns(Refused):
    """A host has one worker. *holder*: a sentence that names its process."""

    template = "a worker of {host} runs already: {holder}"
    hint_template = "on {host}: systemctl status hostler-worker"


class HostNameTaken(Refused):
    """Two machines have the same *host* in their settings."""

    template = "another machine works as {host}: two hosts have the same [DEFAULT] host"
    hint_template = "hostler host show {host}; the address is the other machine's"


class NoValidHost(Refused):
    """No host can take the server. *reasons*: why not, by host."""

    hint_template = "hostler server migrate --dry-run {server}"

    def __init__(self, *, server: str, reasons: Mapping[str, str], **facts: object) -> None:
        said = "; ".join(f"{host}: {reason}" for host, reason in reasons.items()) or "there is no host"
        facts |= {"server": server, "reasons": dict(reasons)}
        super().__init__(f"no host can take server {server!r}: {said}", **facts)


class InstanceGroupNotFound(Refused):
    template = "no group is called {name!r}"
    hint_template = "hostler group list"


class InstanceGroupExists(Refused):
    template = "there is a group {name!r} already"
    hint_template = "hostler group show {name}"


class InstanceIsInGroup(Refused):
    template = "server {server!r} is in group {group!r} already, and a server is in one group at most"
    hint_template = "hostler group remove {group} {server}"


class InstanceIsNotInGroup(Refused):
    template = "server {server!r} is not in group {group!r}"
    hint_template = "hostler group show {group}"


class GroupAffinityViolation(Refused):
    """The policy of the server's group forbids that host. *reason*: a sentence that names the member."""

    template = "{host}: {reason}"
    hint_template = "hostler group show {group}"


class HostDisabled(Refused):
    template = "host {host} takes no new servers: {reason}"
    hint_template = "hostler host list"


class MigrationInProgress(Refused):
    template = "server {server!r} is being migrated already ({migration})"
    hint_template = "hostler migration watch {migration}"


class InstanceInvalidState(Refused):
    """*state* is not one in which *method* is allowed; *allowed* lists those that are."""

    template = "server {server!r} is {state}: cannot {method} it; it must be {allowed}"
    hint_template = "hostler server show {server}"


class InstanceIsLocked(Refused):
    """*who* has locked it, and why; *server*: its UUID, or a name that can be typed."""

    template = "server {server!r} was locked by {who}: {reason}"
    hint_template = "hostler server unlock {server}"


class ProjectNotFound(Refused):
    template = "no server and no quota belongs to a project {project!r}"
    hint_template = "hostler quota list"


class OverQuota(Refused):
    """The project has not that much left. Amounts are in *unit*; *used* counts what migrations have reserved."""

    template = (
        "project {project!r} would exceed its quota of {resource}: {need} {unit} more needed, "
        "{used} of {limit} used"
    )
    hint_template = "hostler quota show {project}"


class QuotaBelowUse(Refused):
    """The limit is less than what the project uses already. *over*: a sentence for each such resource."""

    template = "project {project!r} uses more than that: {over}"
    hint_template = (
        "hostler quota show {project}; with --force it is set, and until less is used nothing may grow"
    )


class WritesWouldBeLost(Refused):
    """Going back to the files that *source* set aside drops what the server has written on *host* since."""

    template = (
        "{server!r} ran on {host}: going back to {source} drops everything written since it was handed over"
    )
    hint_template = "hostler server revert --reason ... --drop-writes {server}"


class ComputeResourcesUnavailable(Refused):
    """The destination's claim failed. Amounts are in *unit*."""

    template = "{host} has not enough {resource}: {need} {unit} needed, {free} {unit} free"
    hint_template = "hostler host show {host}"


class AllocationNotMovable(Refused):
    """What the server has in Placement cannot be claimed elsewhere. *instance*: its UUID."""

    template = "what server {server!r} has in Placement cannot be moved: {reason}"
    hint_template = "openstack resource provider allocation show {instance}"


class PortNotMovable(Refused):
    """A port of the server cannot be bound to that host. *port*: its MAC address, which libvirt and Neutron know."""

    template = "port {port} cannot be moved to {host}: {reason}"
    hint_template = "openstack port list --mac-address {port}"


class NetworksNotMapped(Refused):
    """What --map-network asks for cannot be had on *host*."""

    template = "the networks of server {server!r} cannot be mapped on {host}: {reason}"
    hint_template = "hostler host show {host}"


class VolumeNotMovable(Refused):
    """A volume of Cinder's cannot go along with its server. *volume*: its UUID; *target*: what the guest calls it."""

    template = "volume {volume} ({target}) cannot be moved to {host}: {reason}"
    hint_template = "openstack volume show {volume}"


class CPUPinningInvalid(Refused):
    """The CPUs or NUMA nodes that the server's definition asks for are not to be had on that host."""

    template = "{host} cannot give server {server!r} the CPUs and NUMA nodes that it is pinned to: {reason}"
    hint_template = "hostler server migrate --dry-run {server}"


class MigrationPreCheckError(Refused):
    """What the checks of a host found, all of it at once. *problems*: sentences; *host*: who checked."""

    hint_template = "hostler host show {host}"

    def __init__(self, problems: Sequence[str], *, host: str, **facts: object) -> None:
        super().__init__(f"{host}: " + "; ".join(problems), problems=list(problems), host=host, **facts)


class InvalidSharedStorage(Refused):
    """Only one of two hosts sees what the other writes into *paths*: neither shared nor apart."""

    template = (
        "{paths}: only one of {source} and {dest} sees what the other writes there, and both must, or neither; "
        "see on each what is mounted there and how: findmnt --target {path}"
    )
    hint_template = "on {source}: findmnt --target {path}; and on {dest}"


class DestinationDiskExists(Refused):
    template = "{host} has a file {path} already"
    hint_template = "on {host}: ls -ld {path}; move it away if nobody needs it"


class BadConfiguration(Refused):
    """A setting is missing or wrong. *where*: file and option."""

    template = "{where}: {problem}"
    hint_template = "hostler config sample; it says what each setting may be"


class NotificationRefused(Refused):
    """A listener does not take an event and never will. *where*: its address."""

    template = "{where} does not take {event}: {reason}"
    hint_template = "hostler migration list; what the listener was not told stands on record"


# -- passing: asked again ---------------------------------------------------------------------------------


class Passing(HostlerError):
    """A server or a peer did not answer in time; the same request may go through later."""


class ServerUnreachable(Passing):
    """*what* is ZooKeeper, the database or libvirt; *where* its address, without any password."""

    template = "{what} does not answer at {where}: {reason}"
    hint_template = "see that it runs and that this host reaches it, then ask again"


class SharedFileArriving(Passing):
    """A file that belongs to the host, as a backing file does, is received once, and whoever needs it waits for that.

    *migration*: the one that receives it.
    """

    template = "{path} is being received on {host} for migration {migration}"
    hint_template = "hostler migration watch {migration}"


# -- failed: the migration is undone ----------------------------------------------------------------------


class Failed(HostlerError):
    """A step failed; the flow walks back."""

    exit_code = 4


class MigrationError(Failed):
    """The general failure of a step."""


class Cancelled(Failed):
    """An operator wished the migration undone while the step was at work."""


class UnexpectedTaskStateError(Failed):
    """The compare-and-swap of :meth:`hostler.records.instances.save` found another state."""

    template = "server {instance} is in task state {actual}, not in {expected}"


class UnexpectedVMStateError(Failed):
    template = "server {instance} is {actual}, not {expected}"


class InvalidStateTransition(Failed):
    """*field* may not go from *before* to *after*: :mod:`hostler.records.states` has no such transition."""

    template = "the {field} of {what} is {before}, from which it cannot become {after}"


class InstancePowerOffFailure(Failed):
    template = "server {instance} did not stop: {reason}"


class InstanceIsActive(Failed):
    """Somebody started the guest while its files were about to be moved."""

    template = "server {instance} runs on {host}; its files are not touched while it does"


class DomainChanged(Failed):
    """The domain's definition is not the one that was inspected."""

    template = "server {instance} was changed since it was inspected: {what}"


class DiskNotFound(Failed):
    template = "{host} has no file {path}"


class InvalidDiskInfo(Failed):
    template = "{path}: {reason}"


class ResizeError(Failed):
    """A definition or a disk cannot be given another size."""

    template = "{what} cannot be resized: {reason}"


class ImageMismatch(Failed):
    """An image that arrived is not the image that left. Digests are BLAKE3, hexadecimal; offset in bytes."""

    template = "{path} differs at offset {offset}: {expected} left, {actual} arrived"


class ImageTransferError(Failed):
    """The bytes did not get through within the time allowed."""

    template = "copying {path} failed: {reason}"


class ImageUnreadable(ImageTransferError):
    """The source's own file is at fault: no other destination would do better."""


class ReceiverUnavailable(Failed):
    template = "the receiver on {host} could not be started: {reason}"


class GuestStartError(Failed):
    template = "server {instance} cannot be created on {host}: {reason}"


class CloudServiceFailed(Failed):
    """A service of the cloud did not answer for too long, or could not do what was asked."""

    template = "{service} failed: {reason}"


class CloudServiceRefused(Failed):
    """A service of the cloud answers, and says no: it knows us not, or not what we ask for."""

    template = "{service} refuses: {reason}"
    hint_template = (
        "see that the cloud that [openstack] names is the right one, and that its credentials are good"
    )


class PortBindingFailed(Failed):
    template = "port {port} cannot be bound to {host}: {reason}"


class VirtualInterfaceCreateException(Failed):
    """A port's service has not said that it was plugged in. *port*: its MAC address; *id*: as the service calls it."""

    template = "port {port} was not plugged in on {host}: {reason}"
    hint_template = (
        "openstack port show {id}; openstack network agent list --host {host} tells who should have seen it"
    )


class VolumeUnreachable(Failed):
    template = "volume {volume} cannot be reached from {host}: {reason}"


class HandOverRefused(Failed):
    """The record of the server is not what the hand-over expects. The guest has not run on the destination."""

    template = "server {instance} was not handed over: {reason}"


class DestinationUnusable(Failed):
    """A file system or directory of the destination could not be used."""

    template = "{host}: {path}: {reason}"


class ForeignObject(Failed):
    """Something stands where ours should be, and it is not ours. It is left alone."""

    template = "{what} on {host} does not belong to this migration; it was left as it is"


# -- needs an operator ------------------------------------------------------------------------------------


class NeedsOperator(HostlerError):
    """The migration was parked. *commands*: what resolves it, best first."""

    exit_code = 5


class FlowUnreadable(NeedsOperator):
    """The record of a flow is damaged, or was written by a version that this one does not know."""

    template = "flow {flow} cannot be read: {reason}"


class StepNotFound(NeedsOperator):
    """A flow was posted by a version with another step of that name, or with one that this version has not."""

    template = (
        "this version of hostler has no step {step!r} ({version}):"
        " let the version that posted it finish the migration"
    )


class MigrationParked(NeedsOperator):
    template = "migration {migration} was parked at {step}: {reason}"
    hint_template = "hostler migration show {migration}"


# -- interrupted: the leg stops, the step stays RUNNING ---------------------------------------------------


class Interrupted(BaseException):
    """The leg stops here and now, and nothing is undone by it.

    TaskFlow's engine answers an :class:`Exception` by reverting; this passes through it.
    """


class Fenced(Interrupted):
    """A later claim holds this migration: whatever this leg still wants to write is refused."""


class SessionLost(Interrupted):
    """ZooKeeper has ended our session: somebody else may hold the claim by now."""


class Unreachable(Interrupted):
    """The database (or libvirt) is away. The job stays, and is tried again with a growing pause."""


class Stopping(Interrupted):
    """The worker ends and could not wait for the step."""


class Park(Interrupted):
    """What is done cannot be undone by itself, and going on failed: a human decides.

    *reason* is a sentence; *commands* are what resolves it, best first.
    """

    def __init__(self, reason: str, commands: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.commands = list(commands)
