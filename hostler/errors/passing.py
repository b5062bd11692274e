"""Passing: a server or a peer did not answer; it is asked again."""

from __future__ import annotations

from hostler.errors.base import HostlerError


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
