"""What is ready for Prometheus and Grafana names metrics that there are, and the page names them all."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from hostler.metrics.catalogue import METRICS, OF_RECORDS, OF_WORKER
from hostler.metrics.meter import Meter
from hostler.metrics.readings import Readings
from hostler.records.database import Database

TOP = Path(__file__).resolve().parents[3]
MONITORING = TOP / "packaging" / "monitoring"
RULES = MONITORING / "hostler.rules.yml"
SERIES = {name: metric for metric in METRICS.values() for name in metric.series}
#: What a scrape adds, and what PromQL itself says.
ADDED = {"le", "instance", "job", "alertname", "alertstate"}


def queries() -> Iterator[tuple[str, str]]:
    """Give each query that is shipped, with where it stands."""
    yield from alerts()
    yield from panels()


def alerts() -> Iterator[tuple[str, str]]:
    """Give those of the rules and of their tests."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for test in yaml.safe_load((MONITORING / "hostler.rules.test.yml").read_text())["tests"]:
        for series in test["input_series"]:
            yield test["name"], series["series"]


def panels() -> Iterator[tuple[str, str]]:
    """Give those of the dashboard."""
    dashboard = json.loads((MONITORING / "hostler.dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if isinstance(variable["query"], dict):
            yield variable["name"], variable["query"]["query"]


def test_every_metric_that_is_asked_for_is_there_with_its_labels() -> None:
    asked = set()
    for where, query in queries():
        names = re.findall(r"\bhostler_\w+", query)
        assert names or query.startswith("up{"), where
        assert set(names) <= SERIES.keys(), where
        asked |= set(names)
        known = ADDED.union(*(SERIES[name].labels for name in names))
        selected = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", query))
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")}
        assert selected | grouped <= known, where
    shown = {SERIES[name].name for name in asked}
    assert METRICS.keys() - shown == {"hostler_turns_limit"}


def test_the_worker_and_the_records_tell_what_the_catalogue_has(database: Database) -> None:
    told = {family.name: family for family in Meter().registry.collect()}
    assert told.keys() == {metric.name for metric in OF_WORKER}
    registry = CollectorRegistry()
    registry.register(Readings(database, keep_s=10, patience_s=60))
    told |= {family.name: family for family in registry.collect()}
    assert told.keys() == METRICS.keys()
    assert {name: (family.type, family.documentation) for name, family in told.items()} == {
        metric.name: (metric.kind, metric.says) for metric in METRICS.values()
    }


def test_no_label_can_name_a_server_or_a_migration() -> None:
    labels = {label for metric in METRICS.values() for label in metric.labels}
    assert labels == {
        *("host", "version", "flow", "step", "direction", "outcome", "end", "phase", "status", "vm_state"),
        "reason",
    }


def test_every_metric_is_in_the_manual() -> None:
    page = "\n".join(runpy.run_path(str(TOP / "docs" / "render.py"))["metrics_page"]())
    for metric in (*OF_WORKER, *OF_RECORDS):
        assert all(f"``{name}``" in page for name in (*metric.series, *metric.labels))
        assert metric.says in page


def promtool(*arguments: str) -> None:
    """Let Prometheus' own tool judge; what it finds wrong fails the test."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    ran = subprocess.run([program, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_is_raised_when_it_should_be_and_not_before() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    tests = (MONITORING / "hostler.rules.test.yml").read_text()
    assert [rule["alert"] for rule in rules if rule["alert"] not in tests] == []
    promtool("check", "rules", RULES.name)
    promtool("test", "rules", "hostler.rules.test.yml")


def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    asked = [
        query.replace("$instance", ".*") for _, query in panels() if not query.startswith("label_values")
    ]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(asked)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "panels.yml"))
