"""The services of a cloud, each real and private: an environment of its own, one address, free ports, gone afterwards.

For tests::

    with Placement(tmp_path) as placement:
        requests.get(placement.url)

``tools/lab services up placement`` starts one that outlives the command; `clouds_file` then says where it is.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.places import BASE, CHECKOUT
from lab.process import LabError
from lab.services.ceph import Ceph
from lab.services.cinder import Cinder
from lab.services.mariadb import MariaDB
from lab.services.neutron import Neutron
from lab.services.ovn import Ovn
from lab.services.placement import Placement
from lab.services.postgresql import SharedPostgreSQL
from lab.services.rabbitmq import RabbitMQ
from lab.services.service import Service
from lab.services.tgt import Tgt
from lab.switch import identity_of

__all__ = [
    "SERVICES",
    "Ceph",
    "Cinder",
    "MariaDB",
    "Neutron",
    "Ovn",
    "Placement",
    "RabbitMQ",
    "Service",
    "SharedPostgreSQL",
    "Tgt",
]

#: Each checkout has services of its own.
DEFAULT_DIRECTORY = BASE / f"services-{identity_of(CHECKOUT)}"

#: By the name that ``tools/lab services`` takes.
SERVICES: Mapping[str, type[Service]] = {
    kind.name: kind
    for kind in (Placement, Neutron, Ovn, Cinder, RabbitMQ, SharedPostgreSQL, MariaDB, Tgt, Ceph)
}


def up(directory: Path, names: Sequence[str], address: str = "") -> None:
    """Start the services of these names, or all; write where they are for openstacksdk.

    *address*: where those listen that are not there yet; loopback, unless it says otherwise.
    """
    kinds = _kinds(names)
    with _alone_in(directory):
        for kind in kinds:
            kind(directory / kind.name, "" if (directory / kind.name).exists() else address).start()
        _write_clouds(directory)


def down(directory: Path, names: Sequence[str]) -> None:
    """End the services of these names, or all, and remove them."""
    kinds = _kinds(names)
    with _alone_in(directory):
        for kind in kinds:
            kind(directory / kind.name).remove()
        if all_of(directory):
            _write_clouds(directory)
        else:
            clouds_file(directory).unlink(missing_ok=True)
            directory.rmdir()


def all_of(directory: Path) -> list[Service]:
    """Return the services that were started in *directory*, whether they still run or not."""
    return [kind(directory / name) for name, kind in SERVICES.items() if (directory / name).exists()]


def clouds_file(directory: Path) -> Path:
    """Return the ``clouds.yaml`` whose cloud ``lab`` has the services of *directory*."""
    return directory / "clouds.yaml"


def write_clouds(file: Path, services: Sequence[Service]) -> None:
    """Write a ``clouds.yaml`` whose cloud ``lab`` has these services; JSON is YAML, too."""
    cloud: dict[str, object] = {}
    for service in services:
        cloud |= service.clouds()
    file.write_text(json.dumps({"clouds": {"lab": cloud}}, indent=1))


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Refuse whoever comes while another command starts or ends services in *directory*; make it."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # whoever held it before may have removed it
            if directory.exists() and directory.stat().st_ino == os.fstat(held).st_ino:
                yield
                return
        except BlockingIOError:
            raise LabError(
                f"another command starts or ends services in {directory}: "
                "try again when it is over, or name another folder with --folder"
            ) from None
        finally:
            os.close(held)


def _kinds(names: Sequence[str]) -> list[type[Service]]:
    if unknown := [name for name in names if name not in SERVICES]:
        raise LabError(f"no service {', '.join(unknown)}: there are {', '.join(SERVICES)}")
    return [SERVICES[name] for name in names or SERVICES]


def _write_clouds(directory: Path) -> None:
    found = all_of(directory)
    if gone := [service.name for service in found if service.pid is None]:
        raise LabError(f"{', '.join(gone)} ended: see the file log in {directory}/NAME")
    write_clouds(clouds_file(directory), found)
