"""``hostler doctor``, as it is typed."""

from __future__ import annotations

import json

from tests.functional.doctor import planted
from tests.functional.doctor.conftest import Typed, Ward
from tests.support.world import World


def test_all_is_clean(world: World, ward: Ward, hostler: Typed) -> None:
    world.add_server()
    code, said = hostler("doctor", "-f", "value")
    assert (code, said) == (0, "")


def test_a_table_says_where_what_and_what_to_type(world: World, ward: Ward, hostler: Typed) -> None:
    path = planted.part(world)[1]
    code, said = hostler("doctor")
    assert code == 5
    header, row = (line for line in said.splitlines() if line.startswith("|"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["Host", "Finding", "Try"]
    assert "kvm2" in row
    assert path in row
    assert "hostler doctor --fix --host kvm2" in row


def test_scripts_get_all_of_it(world: World, ward: Ward, hostler: Typed) -> None:
    path = planted.part(world)[1]
    code, said = hostler("doctor", "-f", "json")
    (found,) = json.loads(said)
    assert code == 5
    assert (found["Kind"], found["Object"], found["Severity"]) == ("part", path, "warning")
    assert (found["Safe"], found["Mended"], found["Host"]) == (True, False, "kvm2")


def test_fix_says_what_it_mended(world: World, ward: Ward, hostler: Typed) -> None:
    planted.part(world)
    code, said = hostler("doctor", "--fix", "-f", "value", "-c", "Host", "-c", "Try")
    assert (code, said.splitlines()[0]) == (0, "kvm2 mended")
    assert hostler("doctor", "-f", "value") == (0, "")


def test_fix_of_one_host_leaves_the_other(world: World, ward: Ward, hostler: Typed) -> None:
    planted.part(world)
    aside = planted.aside_directory_of_a_confirmed_migration(world)[1]
    code, _ = hostler("doctor", "--fix", "--host", "kvm2")
    assert code == 0
    assert world.hosts["kvm1"].at(aside).exists()
    code, said = hostler("doctor", "--host", "kvm1")
    assert code == 5
    assert aside in said
    assert hostler("doctor", "--host", "kvm2", "-f", "value") == (0, "")


def test_a_host_that_cannot_be_looked_at_is_an_error(world: World, ward: Ward, hostler: Typed) -> None:
    ward.worker_dies("kvm2")
    code, said = hostler("doctor", "-f", "value", "-c", "Finding")
    assert (code, said.strip()) == (1, "kvm2 cannot be looked at: no worker is alive")


def test_an_unknown_host_is_refused(world: World, hostler: Typed) -> None:
    code, said = hostler("doctor", "--host", "kvm7")
    assert code == 3
    assert "no host is called 'kvm7'" in said


def test_a_name_does_not_steer_the_terminal(world: World, ward: Ward, hostler: Typed) -> None:
    name = "gone\x1b[31m\n.qcow2"
    number = planted.recorded(world)
    planted.file(world, "kvm1", f"{planted.INSTANCES}/{name}.{number}_resize")
    code, said = hostler("doctor")
    assert code == 5
    assert "\x1b" not in said
    assert "gone\\x1b[31m\\n.qcow2" in said
    _, said = hostler("doctor", "-f", "json")
    assert json.loads(said)[0]["Object"].endswith(f"{name}.{number}_resize")
