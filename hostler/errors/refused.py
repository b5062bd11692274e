"""Refused: nothing was changed; mend the cause, ask again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hostler.errors.base import HostlerError, hints_of


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
    """What the checks of a host found, all of it at once. *problems*: sentences; *host*: who checked.

    The first one says what to type, if it knows.
    """

    hint_template = "hostler host show {host}"

    def __init__(self, problems: Sequence[str], *, host: str, **facts: object) -> None:
        own = [hint for hint in hints_of(problems[:1], "") if hint]
        facts = {"hint": own[0]} | facts if own else facts
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
