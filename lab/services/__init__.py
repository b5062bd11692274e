"""The services of a cloud, each real and private: an environment of its own, loopback, a free port, gone afterwards.

For tests::

    with Placement(tmp_path) as placement:
        requests.get(placement.url)

``tools/lab services up placement`` starts one that outlives the command; `clouds_file` then says where it is.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.places import BASE
from lab.process import LabError
from lab.services.cinder import Cinder
from lab.services.neutron import Neutron
from lab.services.ovn import Ovn
from lab.services.placement import Placement
from lab.services.service import Service

__all__ = ["SERVICES", "Cinder", "Neutron", "Ovn", "Placement", "Service"]

DEFAULT_DIRECTORY = BASE / "services"

#: By the name that ``tools/lab services`` takes.
SERVICES: Mapping[str, type[Service]] = {
    "placement": Placement,
    "neutron": Neutron,
    "ovn": Ovn,
    "cinder": Cinder,
}


def up(directory: Path, names: Sequence[str]) -> None:
    """Start the services of these names, or all; write where they are for openstacksdk."""
    for kind in _kinds(names):
        kind(directory / kind.name).start()
    _write_clouds(directory)


def down(directory: Path, names: Sequence[str]) -> None:
    """End the services of these names, or all, and remove them."""
    for kind in _kinds(names):
        kind(directory / kind.name).remove()
    if all_of(directory):
        _write_clouds(directory)
    elif directory.exists():
        shutil.rmtree(directory)


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


def _kinds(names: Sequence[str]) -> list[type[Service]]:
    if unknown := [name for name in names if name not in SERVICES]:
        raise LabError(f"no service {', '.join(unknown)}: there are {', '.join(SERVICES)}")
    return [SERVICES[name] for name in names or SERVICES]


def _write_clouds(directory: Path) -> None:
    found = all_of(directory)
    if gone := [service.name for service in found if service.pid is None]:
        raise LabError(f"{', '.join(gone)} ended: see the file log in {directory}/NAME")
    write_clouds(clouds_file(directory), found)
