"""Services, up for the whole run; each test has hosts and servers of its own in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from hostler import conf as settings
from lab import services
from lab.services import Cinder, MariaDB, Neutron, Placement
from tests.support.obstacle import Obstacle, obstacle


@pytest.fixture(scope="session")
def real_placement(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Placement]:
    """A private Placement."""
    with Placement(tmp_path_factory.mktemp("services") / "placement") as service:
        yield service


@pytest.fixture
def before_placement(real_placement: Placement) -> Iterator[Obstacle]:
    """What stands before it."""
    with obstacle(real_placement.url) as made:
        yield made


@pytest.fixture(scope="session")
def real_neutron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neutron]:
    """A private Neutron that can bind ports to kvm1 and kvm2."""
    with Neutron(tmp_path_factory.mktemp("services") / "neutron") as service:
        yield service


@pytest.fixture(scope="session")
def neutron_network(real_neutron: Neutron) -> str:
    """A network in it."""
    return real_neutron.add_network("lab")


@pytest.fixture
def before_neutron(real_neutron: Neutron) -> Iterator[Obstacle]:
    """What stands before it."""
    with obstacle(real_neutron.url) as made:
        yield made


@pytest.fixture(scope="session")
def real_cinder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cinder]:
    """A private Cinder."""
    with Cinder(tmp_path_factory.mktemp("services") / "cinder") as service:
        yield service


@pytest.fixture
def before_cinder(real_cinder: Cinder) -> Iterator[Obstacle]:
    """What stands before it."""
    with obstacle(real_cinder.url) as made:
        yield made


@pytest.fixture(scope="session")
def real_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A private MariaDB."""
    with MariaDB(tmp_path_factory.mktemp("services") / "mariadb") as service:
        yield service


@pytest.fixture
def conf_of(tmp_path: Path) -> Callable[..., cfg.ConfigOpts]:
    """Return settings whose cloud has a service, by way of an obstacle."""

    def make(service: services.Service, way: Obstacle, **changes: object) -> cfg.ConfigOpts:
        file = tmp_path / "clouds.yaml"
        services.write_clouds(file, [service])
        file.write_text(file.read_text().replace(service.url, way.url))
        conf = settings.load(["/dev/null"])
        patient = {"cloud": "lab", "clouds_file": str(file), "timeout": 120.0, "retries": 0}
        for option, value in {**patient, **changes}.items():
            conf.set_override(option, value, "openstack")
        return conf

    return make
