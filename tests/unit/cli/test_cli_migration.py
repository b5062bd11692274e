"""``hostler migration``, ``host``, ``flow``, ``db``, ``config`` and ``worker``."""

from __future__ import annotations

import configparser
import importlib.metadata
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hostler.cli import app
from hostler.flows.graph import FORMATS
from hostler.records.database import Database
from hostler.scheduling.scheduler import Candidate
from tests.unit.cli.cli_world import MIGRATION, SERVER, START, Hostler, World

OTHER = "beef0000-2222-4333-8444-555555555555"
OTHER_FLOW = "f2000000-2222-4333-8444-555555555555"


@pytest.fixture
def two(world: World) -> World:
    """A migration under way, and a dry run that was refused."""
    world.add_server()
    world.add_migration()
    world.add_migration(
        OTHER,
        flow_uuid=OTHER_FLOW,
        migration_type="dry-run",
        phase="closed",
        outcome="refused",
        status="error",
        dest_compute="kvm3",
        created_at=START.replace(hour=13),
    )
    return world


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), [MIGRATION]),
        (("--all",), [OTHER, MIGRATION]),
        (("--all", "--state", "refused"), [OTHER]),
        (("--all", "--state", "open"), [MIGRATION]),
        (("--all", "--state", "migrating"), [MIGRATION]),
        (("--state", "parked"), []),
        (("--host", "kvm2"), [MIGRATION]),
        (("--server", "web1", "--all"), [OTHER, MIGRATION]),
        (("--all", "--limit", "1"), [OTHER]),
    ],
)
def test_migrations_are_listed_latest_first(
    two: World, hostler: Hostler, filters: tuple[str, ...], found: list[str]
) -> None:
    ran = hostler("migration", "list", "-f", "value", "-c", "UUID", *filters)
    assert (ran.code, ran.out.split()) == (0, found)


def test_a_list_that_was_cut_says_so(two: World, hostler: Hostler) -> None:
    told = hostler("migration", "list", "--all", "--limit", "1").err
    assert f"--after {OTHER} lists the next, --limit 0 lists all" in told
    rest = hostler(
        "migration", "list", "--all", "--limit", "1", "--after", OTHER, "-f", "value", "-c", "UUID"
    )
    assert (rest.out.split(), rest.err) == ([MIGRATION], "")


def test_a_migration_is_shown_with_steps_files_and_history(two: World, hostler: Hostler) -> None:
    two.done(1)
    two.step(2, "FAILURE", "boom \x1b[31m")
    two.copied(1 << 30)
    two.event("posted", "asked for by root")
    shown = json.loads(hostler("migration", "show", "abcd", "-f", "json").out)
    assert shown["server_uuid"] == SERVER
    assert (shown["current_step"], shown["current_host"]) == ("NotifyUsageExists", "kvm2")
    assert shown["steps"][0]["state"] == "done"
    assert shown["steps"][1] == {
        "number": 2, "host": "kvm2", "name": "NotifyUsageExists",
        "state": "failed", "seconds": 2.1, "error": "boom \x1b[31m",
    }  # fmt: skip
    assert shown["files"][0]["done_bytes"] == 1 << 30
    assert shown["history"][0]["text"] == "asked for by root"
    table = hostler("migration", "show", "web1").out
    assert "boom \\x1b[31m" in table
    assert "\x1b" not in table


@pytest.mark.parametrize("name", ["nothing", "dead0000", "", "../x"])
def test_an_unknown_migration_is_refused(two: World, hostler: Hostler, name: str) -> None:
    ran = hostler("migration", "show", name)
    assert ran.code == 3
    assert "  try: hostler migration list" in ran.err


def test_a_migration_is_drawn_with_its_states(two: World, hostler: Hostler) -> None:
    two.done(1)
    two.step(2, "FAILURE", "no bridge br7")
    svg = hostler("migration", "graph", "web1").out
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "cold_migration of web1: running" in texts
    assert "no bridge br7" in texts
    assert "dest: kvm2" in texts
    drawn = json.loads(hostler("migration", "graph", "web1", "--format", "json").out)
    assert [step["state"] for step in drawn["steps"][:3]] == ["done", "failed", "pending"]


@pytest.mark.usefixtures("sample_flow")
@pytest.mark.parametrize("fmt", FORMATS)
def test_a_flow_is_drawn_before_it_runs(world: World, hostler: Hostler, fmt: str) -> None:
    ran = hostler("flow", "graph", "cold_migration", "--format", fmt)
    assert ran.code == 0
    assert "HandOver" in ran.out


@pytest.mark.usefixtures("sample_flow")
def test_flows_are_listed_and_an_unknown_one_is_refused(world: World, hostler: Hostler) -> None:
    assert hostler("flow", "list", "-f", "value").out == "cold_migration 22 HandOver\n"
    ran = hostler("flow", "graph", "hot_migration")
    assert ran.code == 3
    assert "no flow is called 'hot_migration'; there are: cold_migration" in ran.err


def test_a_host_is_listed_with_its_worker_and_what_is_left(world: World, hostler: Hostler) -> None:
    world.add_host("kvm3", disabled_reason="repair")
    world.add_server()
    world.client.board = {"kvm1": [MIGRATION]}
    rows = {row["Name"]: row for row in json.loads(hostler("host", "list", "-f", "json").out)}
    assert rows["kvm1"] == {
        "Name": "kvm1", "Worker": "up", "Servers": 1, "Queue": 1,
        "vCPUs Free": 15, "Memory Free MiB": 15488, "Disk Free GiB": 1024,
    }  # fmt: skip
    assert rows["kvm3"]["Worker"] == "down, disabled"


def test_a_host_is_shown_with_its_migrations(two: World, hostler: Hostler) -> None:
    shown = json.loads(hostler("host", "show", "kvm2", "-f", "json").out)
    assert (shown["migrations"], shown["worker"], shown["vcpus"]) == (MIGRATION, "up", 16)
    assert shown["worker_since"] == "2026-03-01T12:00:00+00:00"
    ran = hostler("host", "show", "kvm9")
    assert ran.code == 3
    assert "no host is called 'kvm9'" in ran.err


REPORT = {"source": [], "dest": [], "bytes": 3 << 30, "files": [{"path": "/i/web1.qcow2", "bytes": 3 << 30}]}


@pytest.mark.usefixtures("sample_flow")
def test_a_dry_run_prints_steps_hosts_and_bytes(world: World, hostler: Hostler) -> None:
    world.add_server()
    world.add_migration(migration_type="dry-run", flow_name="check_migration")
    world.client.on_wait = [lambda: world.finish("success", report=REPORT)]
    ran = hostler("server", "migrate", "web1", "--to", "kvm2", "--dry-run")
    assert ran.code == 0
    assert world.client.asked == [("dry_run", "web1", "kvm2")]
    assert "   9 kvm1  PowerOff: Shut the guest down cleanly" in ran.out
    assert "3.0 GiB to copy in 1 file:\n     3.0 GiB  /i/web1.qcow2" in ran.out
    assert ran.out.endswith("nothing stands in the way of moving web1 to kvm2\n")


@pytest.mark.usefixtures("sample_flow")
def test_a_dry_run_says_all_that_would_be_refused(world: World, hostler: Hostler) -> None:
    world.add_migration(migration_type="dry-run", flow_name="check_migration")
    report = REPORT | {"source": ["a device is passed through\x1b[2J"], "dest": ["no bridge br7", "no space"]}
    world.finish("success", report=report)  # by a worker that puts no next commands down
    argv = ("server", "migrate", "web1", "--to", "kvm2", "--dry-run")
    ran = hostler(*argv)
    assert ran.code == 3
    before = ["kvm1: a device is passed through\\x1b[2J", "kvm2: no bridge br7", "kvm2: no space"]
    again = "then: hostler server migrate --to kvm2 --dry-run web1"
    assert ran.out.endswith("it would be refused:\n  " + "\n  ".join([*before, again]) + "\n")
    hints = {"source": ["on kvm1: virsh dumpxml web1"], "dest": ["hostler host show kvm2"] * 2}
    world.finish("success", report=report | {"hints": hints})
    ran = hostler(*argv)
    assert ran.code == 3
    said = [
        before[0],
        "  try: on kvm1: virsh dumpxml web1",
        *before[1:],
        "  try: hostler host show kvm2",
        again,
    ]
    assert ran.out.endswith("it would be refused:\n  " + "\n  ".join(said) + "\n")
    plan = json.loads(hostler(*argv, "--format", "ndjson").out)
    assert [problem["host"] for problem in plan["problems"]] == ["kvm1", "kvm2", "kvm2"]
    assert [problem["next"] for problem in plan["problems"]] == [*hints["source"], *hints["dest"]]
    assert (plan["exit_code"], plan["bytes"], len(plan["steps"])) == (3, 3 << 30, 22)


FOUND = [
    Candidate("kvm3", weight=2.5),
    Candidate("kvm2", weight=1.0),
    Candidate("kvm1", reason="the server is on it\x1b[2J", next="hostler host list"),
]


@pytest.mark.usefixtures("sample_flow")
def test_a_dry_run_without_a_host_shows_all_hosts_and_the_plan_of_the_best(
    world: World, hostler: Hostler
) -> None:
    world.add_server()
    world.add_migration(migration_type="dry-run", flow_name="check_migration", dest_compute="kvm3")
    world.finish("success", report=REPORT)
    world.client.found = FOUND
    ran = hostler("server", "migrate", "web1", "--dry-run")
    assert ran.code == 0
    assert world.client.asked == [("candidates", "web1"), ("dry_run", "web1", "kvm3")]
    assert ran.out.startswith(
        "hosts, the best first:\n  kvm3  weight 2.50\n  kvm2  weight 1.00\n"
        "  kvm1  no: the server is on it\\x1b[2J\n\nplan for web1: kvm1 -> kvm3\n"
    )
    plan = json.loads(hostler("server", "migrate", "web1", "--dry-run", "-f", "json").out)
    assert plan["hosts"][0] == {"host": "kvm3", "weight": 2.5, "reason": None, "next": None}
    assert plan["dest"] == "kvm3"


def test_a_dry_run_that_finds_no_host_says_why_not_of_each(world: World, hostler: Hostler) -> None:
    world.client.found = FOUND[2:]
    ran = hostler("server", "migrate", "web1", "--dry-run")
    assert ran.code == 3
    assert ran.out.splitlines()[1:] == [
        "  kvm1  no: the server is on it\\x1b[2J",
        "",
        "no host can take web1",
        "  try: hostler host list",
    ]
    assert json.loads(hostler("server", "migrate", "web1", "--dry-run", "-f", "json").out) == {
        "server": "web1",
        "exit_code": 3,
        "hosts": [
            {
                "host": "kvm1",
                "weight": None,
                "reason": "the server is on it\x1b[2J",
                "next": "hostler host list",
            }
        ],
    }
    assert {asked[0] for asked in world.client.asked} == {"candidates"}


def test_the_sample_configuration_is_one(world: World, hostler: Hostler) -> None:
    sample = hostler("config", "sample").out
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(sample)
    assert {"database", "zookeeper", "libvirt", "images", "drivers"} <= set(parser.sections())
    assert "#my_ip = <None>" in sample
    assert "#use_journal" in sample


@pytest.mark.parametrize(
    ("text", "argv", "words"),
    [
        ("", ("server", "list"), "[database] connection is not set"),
        ("[database]\nconnection = sqlite://\n", ("host", "list"), "[zookeeper] hosts is not set"),
        ("", ("worker",), "[database] connection is not set"),
        ("", ("db", "upgrade"), "connection is not set"),
        ("[database\n", ("server", "list"), "hostler.conf"),
        (
            "[database]\nconnection=x\n[zookeeper]\nhosts=x\n[images]\nport_first = many\n",
            ("server", "list"),
            "port_first",
        ),
    ],
)
def test_half_a_configuration_is_refused_and_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, argv: tuple[str, ...], words: str
) -> None:
    config = tmp_path / "hostler.conf"
    config.write_text(text)
    assert app.main(["--config-file", str(config), *argv]) == 3
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


def test_a_configuration_file_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["--config-file", str(tmp_path / "none.conf"), "server", "list"]) == 3
    assert "none.conf" in capsys.readouterr().err


def test_every_command_can_be_loaded_and_says_what_it_does() -> None:
    entries = importlib.metadata.entry_points(group="hostler.commands")
    assert len(entries) >= 15
    for entry in entries:
        command = entry.load()
        assert command.__doc__, entry.name
        parser = command(app.HostlerApp(), None).get_parser(entry.name)
        undocumented = [action.dest for action in parser._actions if not action.help]
        assert undocumented == [], entry.name


def test_help_lists_the_commands_and_the_exit_codes(hostler: Hostler) -> None:
    ran = hostler("--help")
    assert ran.code == 0
    assert "server migrate" in ran.out
    assert "5 needs an operator" in " ".join(ran.out.split())
    assert "--to HOST" in hostler("server", "migrate", "--help").out


def run_program(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys; from hostler.cli.app import main; sys.exit(main())", *argv],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_program_prints_odd_names_to_an_ascii_terminal(world: World) -> None:
    world.add_server(name="ünïcode")
    ran = run_program(
        "--config-file", str(world.config), "config", "sample", LC_ALL="C", PYTHONIOENCODING="ascii"
    )
    assert ran.returncode == 0, ran.stderr
    said = run_program("ünïcode", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert said.returncode == 2
    assert r"\xfcn\xefcode" in said.stderr


def test_an_unreachable_database_is_told(tmp_path: Path) -> None:
    config = tmp_path / "hostler.conf"
    url = "postgresql+psycopg2://root:secret@127.0.0.1:1/hostler"
    config.write_text(f"[database]\nconnection = {url}\n[zookeeper]\nhosts = 127.0.0.1:1\n")
    ran = run_program("--config-file", str(config), "db", "upgrade")
    assert ran.returncode == 1
    assert ran.stderr.startswith(
        "hostler: the database does not answer at postgresql+psycopg2://root:***@127.0.0.1:1"
    )
    assert "secret" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 2


@pytest.mark.parametrize("argv", [("host", "list"), ("server", "migrate", "web1", "--to", "kvm2", "--wait")])
def test_an_unreachable_zookeeper_is_told_in_two_lines(tmp_path: Path, argv: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path}/hostler.sqlite"
    database = Database(url)
    database.upgrade()
    database.close()
    config = tmp_path / "hostler.conf"
    config.write_text(
        f"[database]\nconnection = {url}\n[zookeeper]\nhosts = 127.0.0.1:1\nconnect_timeout = 2\n"
    )
    ran = run_program("--config-file", str(config), *argv)
    assert (ran.returncode, ran.stdout) == (1, "")
    lines = ran.stderr.splitlines()
    assert lines[0].startswith("hostler: ZooKeeper does not answer at 127.0.0.1:1: ")
    assert lines[1].startswith("  try: ")
    assert len(lines) == 2


@pytest.mark.parametrize(("opens", "code"), [(True, 0), (False, 1)])
def test_a_drawing_is_opened_or_said_to_be_where_it_is(
    two: World, hostler: Hostler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opens: bool, code: int
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", lambda url: asked.append(url) or opens)
    ran = hostler("migration", "graph", "web1", "--open")
    drawn = next(tmp_path.glob("hostler-*.svg"))
    assert (ran.code, asked) == (code, [drawn.as_uri()])
    assert str(drawn) in ran.out + ran.err
    ElementTree.parse(drawn)


def test_a_table_has_no_empty_fields_unless_they_are_asked_for(two: World, hostler: Hostler) -> None:
    table = hostler("migration", "show", MIGRATION).out
    assert "| server " in table
    assert "cancel_reason" not in table
    assert "cancel_reason" in hostler("migration", "show", MIGRATION, "-c", "cancel_reason").out
    assert json.loads(hostler("migration", "show", MIGRATION, "-f", "json").out)["cancel_reason"] is None


class ATerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("sample_flow")
def test_a_terminal_gets_a_drawing_as_text(
    two: World, hostler: Hostler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = ATerminal()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", screen)
        hostler("migration", "graph", MIGRATION)
        hostler("flow", "graph", "cold_migration", "--format", "svg")
    text, svg, _ = screen.getvalue().partition("<svg")
    assert svg
    assert "\nkvm1\n| kvm2\n* |  1 InspectInstance: " in text
    assert max(map(len, text.splitlines())) <= 40


def test_a_table_without_rows_says_so(world: World, hostler: Hostler) -> None:
    ran = hostler("migration", "list")
    assert (ran.code, ran.out, ran.err) == (0, "\n", "hostler: there is none\n")
    ran = hostler("migration", "list", "-f", "json")
    assert (json.loads(ran.out), ran.err) == ([], "")
