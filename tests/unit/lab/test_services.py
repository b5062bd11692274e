"""What the lab knows of a cloud's services without starting one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import services
from lab.process import LabError
from lab.services.environment import PINNED


def test_a_service_that_is_not_known_is_refused_before_any_is_started(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no service pigeon: there are placement"):
        services.up(tmp_path, ["placement", "pigeon"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", sorted(PINNED.glob("*.txt")), ids=lambda file: file.stem)
def test_every_package_of_an_environment_is_pinned(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert lines
    assert [line for line in lines if "==" not in line] == []


def test_one_cloud_has_the_services(tmp_path: Path) -> None:
    services.write_clouds(tmp_path / "clouds.yaml", [services.Placement(tmp_path / "placement")])
    cloud = json.loads((tmp_path / "clouds.yaml").read_text())["clouds"]["lab"]
    assert cloud["placement_endpoint_override"].startswith("http://127.0.0.1:")
