"""hostler: moves stopped virtual machines between libvirt hosts, and undoes what it began when a step fails."""

__version__ = "0.1.0"
