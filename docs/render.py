"""Writes the pages that are made from the code: settings, errors, flows, states, notifications and metrics.

Sphinx runs it (``conf.py``). By hand, ``python docs/render.py`` renews the picture in the README.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oslo_config import cfg

from hostler import conf, errors, flows
from hostler.drivers.notifications import schema
from hostler.flows import graph
from hostler.metrics.catalogue import OF_RECORDS, OF_WORKER
from hostler.records import states
from hostler.views import schema as lines

DOCS = Path(__file__).resolve().parent
README_PICTURE = DOCS / "images" / "cold_migration.svg"


def picture(name: str) -> str:
    """Return the drawing of a flow."""
    return graph.draw(flows.shape_of(name), "svg", title=name)


def write(directory: Path) -> None:
    """Write every page into *directory*."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in flows.FLOWS:
        (directory / f"{name}.svg").write_text(picture(name), encoding="utf-8")
    for field, machine in states.MACHINES.items():
        (directory / f"{field}.dot").write_text(states.to_dot(machine), encoding="utf-8")
    pages = {
        "flows": flow_page(),
        "settings": settings_page(),
        "errors": errors_page(),
        "states": states_page(),
        "notifications": notifications_page(),
        "watch": watch_page(),
        "metrics": metrics_page(),
    }
    for name, page in pages.items():
        (directory / f"{name}.inc").write_text("\n".join(page) + "\n", encoding="utf-8")


def flow_page() -> Iterator[str]:
    """Give a section for each flow."""
    for name, make in flows.FLOWS.items():
        yield from (f".. _flow-{name}:", "", name, "-" * len(name), "", inspect.getdoc(make) or "", "")
        yield from (f".. image:: /generated/{name}.svg", f"   :alt: the flow {name}", "")
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 5 10 25 30 30", "")
        yield from _row("\\#", "Host", "Step", "Does", "Undone by")
        for number, step in enumerate(flows.shape_of(name), 1):
            yield from _row(str(number), step.where, step.name, step.does, step.undo)
            if step.point_of_no_return:
                yield from _row("", "", "**point of no return**", "", "nothing above is undone from here on")
        yield ""


def states_page() -> Iterator[str]:
    """Give a section for each state machine: its picture, its transitions, and Nova's that it has not."""
    for field, machine in states.MACHINES.items():
        yield from (f".. _states-{field}:", "", field, "-" * len(field), "")
        yield from (f".. graphviz:: /generated/{field}.dot", f"   :alt: the transitions of {field}", "")
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 15 15 10 30 30", "")
        yield from _row("From", "To", "", "By", "Unlike Nova")
        for one in machine.transitions:
            yield from _row(f"``{one.before}``", f"``{one.after}``", one.kind.value, one.by, one.note)
        yield ""
        left_out = [(what, why) for where, what, why in states.LEFT_OUT if where == field]
        yield from ("Nova has, and hostler has not:", "")
        yield from (f"* {what}: {why}" for what, why in left_out)
        yield ""


def settings_page() -> Iterator[str]:
    """Give a section for each group of settings."""
    for group, options in conf.GROUPS.items():
        title = f"[{group}]"
        yield from (title, "-" * len(title), "")
        for option in options:
            yield from (f"``{option.name}``", f"   {option.help}", "", f"   {_facts(option)}", "")


def _facts(option: cfg.Opt) -> str:
    default = option.sample_default if option.sample_default is not None else option.default
    default = ", ".join(default) if isinstance(default, list) else default
    words = "no default" if default in (None, "") else f"default: ``{default}``"
    low, high = (getattr(option.type, bound, None) for bound in ("min", "max"))
    if low is not None:
        words += f"; at least {low}"
    if high is not None:
        words += f"; at most {high}"
    return f"{type(option).__name__.removesuffix('Opt').lower()}; {words}"


def errors_page() -> Iterator[str]:
    """Give a section for each branch of the tree of errors."""
    for branch in (errors.Refused, errors.Passing, errors.Failed, errors.NeedsOperator):
        title = f"{branch.__name__}: exit code {branch.exit_code}"
        yield from (title, "-" * len(title), "", _first(branch), "")
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 25 45 30", "")
        yield from _row("Name", "Sentence", "Try")
        for leaf in _leaves(branch):
            sentence = leaf.template if leaf.template != errors.HostlerError.template else _first(leaf)
            yield from _row(
                f"``{leaf.__name__}``", _placeholders(sentence), _placeholders(leaf.hint_template)
            )
        yield ""


def notifications_page() -> Iterator[str]:
    """Give a section for the message, one for the events, and one for each payload, from their schemas."""
    message = schema.read("notification")
    yield from ("The message", "-----------", "", message["description"], "")
    yield from _fields(message)
    yield from ("The events", "----------", "", "In the order in which a migration tells them.", "")
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 45 55", "")
    yield from _row("Event", "Says")
    for event in message["properties"]["event_type"]["oneOf"]:
        yield from _row(f"``{event['const']}``", event["description"])
    yield ""
    for name in schema.NAMES[1:]:
        payload = schema.read(name)
        yield from (payload["title"], "-" * len(payload["title"]), "", payload["description"], "")
        yield from _fields(payload)


def watch_page() -> Iterator[str]:
    """Give what every line of ``--format ndjson`` has, and a section for each kind of line, from their schema."""
    described = lines.read()
    yield from (described["description"], "")
    yield from _fields(described)
    common = described["properties"]
    for one in described["oneOf"]:
        title = f"``{one['title']}``"
        yield from (title, "^" * len(title), "", one["description"], "")
        own = {name: field for name, field in one["properties"].items() if name not in common}
        yield from _fields({"properties": own, "required": one["required"]})


def metrics_page() -> Iterator[str]:
    """Give a table of what each worker says of itself, and one of what it says of the installation."""
    for title, metrics in (("Of each worker", OF_WORKER), ("Of the whole installation", OF_RECORDS)):
        yield from (
            title,
            "^" * len(title),
            "",
            ".. list-table::",
            "   :header-rows: 1",
            "   :widths: 35 15 50",
            "",
        )
        yield from _row("Metric", "Labels", "Says")
        for metric in metrics:
            names = ", ".join(f"``{name}``" for name in metric.series)
            yield from _row(names, ", ".join(f"``{label}``" for label in metric.labels), metric.says)
        yield ""


def _fields(described: dict[str, Any]) -> Iterator[str]:
    for name, field in described["properties"].items():
        optional = "" if name in described["required"] else " (may be missing)"
        yield from (f"``{name}``{optional}", f"   {field['description']}", "")


def _leaves(branch: type[errors.HostlerError]) -> Iterator[type[errors.HostlerError]]:
    for leaf in branch.__subclasses__():
        if leaf.__module__ == errors.__name__:
            yield leaf
            yield from _leaves(leaf)


def _first(thing: type) -> str:
    return (inspect.getdoc(thing) or "").splitlines()[0]


def _placeholders(template: str) -> str:
    return template.replace("!r}", "}").replace("{", "<").replace("}", ">")


def _row(*cells: str) -> Iterator[str]:
    for index, cell in enumerate(cells):
        yield f"   {'* -' if index == 0 else '  -'} {cell}".rstrip()


if __name__ == "__main__":
    README_PICTURE.write_text(picture("cold_migration"), encoding="utf-8")
