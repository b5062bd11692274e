"""What the lab knows of a cloud's services without starting one."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from lab import services
from lab.places import CHECKOUT
from lab.process import LabError
from lab.services.environment import PINNED
from lab.switch import identity_of


def test_a_service_that_is_not_known_is_refused_before_any_is_started(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no service pigeon: there are placement"):
        services.up(tmp_path, ["placement", "pigeon"])
    assert list(tmp_path.iterdir()) == []


def test_a_service_whose_programs_are_missing_says_what_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.Ceph, "needs", ("no-such-program", "ceph"))
    with pytest.raises(LabError, match="no-such-program is not there: tools/install ceph"):
        services.up(tmp_path / "services", ["ceph"])
    services.down(tmp_path / "services", [])
    assert not (tmp_path / "services").exists()


def test_a_service_is_found_again_where_it_was_told_to_listen(tmp_path: Path) -> None:
    for fact, value in (("address", "127.0.0.2"), ("port", "20001")):
        (tmp_path / "tgt").mkdir(exist_ok=True)
        (tmp_path / "tgt" / fact).write_text(value)
    assert services.Tgt(tmp_path / "tgt").uri("a") == (
        "iscsi://127.0.0.2:20001/iqn.2026-01.org.hostler.lab:a/1"
    )


def test_another_command_is_refused_until_the_first_is_over(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(LabError, match=f"another command starts or ends services in {tmp_path}: "):
        services.up(tmp_path, ["tgt"])
    os.close(held)
    services.down(tmp_path, [])
    assert not tmp_path.exists()


def test_each_checkout_has_services_of_its_own() -> None:
    assert services.DEFAULT_DIRECTORY.name == f"services-{identity_of(CHECKOUT)}"


@pytest.mark.parametrize("file", sorted(PINNED.glob("*.txt")), ids=lambda file: file.stem)
def test_every_package_of_an_environment_is_pinned(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert lines
    assert [line for line in lines if "==" not in line] == []


def test_one_cloud_has_the_services(tmp_path: Path) -> None:
    services.write_clouds(tmp_path / "clouds.yaml", [services.Placement(tmp_path / "placement")])
    cloud = json.loads((tmp_path / "clouds.yaml").read_text())["clouds"]["lab"]
    assert cloud["placement_endpoint_override"].startswith("http://127.0.0.1:")
