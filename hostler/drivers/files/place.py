"""Where a host keeps its servers' files, and under which root this process sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hostler.errors import DestinationUnusable, MigrationError


@dataclass(frozen=True)
class Place:
    """The directories of a host; all but *root* are absolute paths as a domain names them."""

    host: str
    instances_path: str
    root: str = "/"
    nvram_path: str = "/var/lib/libvirt/qemu/nvram"
    tpm_path: str = "/var/lib/libvirt/swtpm"
    lock_path: str = "/run/hostler/shared-files.lock"
    devices_path: str = "/var/lib/hostler/devices"  #: what is noted of block devices that were given over
    kept_path: str = "/var/lib/hostler/kept"  #: what is noted of copies that are kept

    def at(self, path: str) -> Path:
        """Return where *path* is for this process."""
        return Path(self.root) / path.lstrip("/")

    def makeable(self, directory: str) -> bool:
        """Whether we may make *directory*: libvirt makes it, too, as soon as it needs it, or Nova (``_base``).

        Never *instances_path* or a pool: one that is missing may be a file system that is not mounted.
        """
        path = PurePosixPath(directory)
        if self.instances_path and PurePosixPath(self.instances_path) in path.parents:
            return self.at(self.instances_path).is_dir()
        bases = [PurePosixPath(base) for base in (self.nvram_path, self.tpm_path)]
        return any(path.is_relative_to(base) and self.at(str(base.parent)).is_dir() for base in bases)


@contextmanager
def as_source(place: Place) -> Iterator[None]:
    """Turn what the system says into :class:`~hostler.errors.MigrationError`."""
    try:
        yield
    except OSError as error:
        raise MigrationError(
            f"{place.host}: {error.filename or place.instances_path}: {error.strerror}", host=place.host
        ) from error


@contextmanager
def as_destination(place: Place) -> Iterator[None]:
    """Turn what the system says into :class:`~hostler.errors.DestinationUnusable`."""
    try:
        yield
    except OSError as error:
        path = error.filename or place.instances_path
        raise DestinationUnusable(host=place.host, path=path, reason=error.strerror) from error
