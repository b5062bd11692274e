"""Failed: a step could not be done, and its migration is undone."""

from __future__ import annotations

from hostler.errors.base import HostlerError


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
