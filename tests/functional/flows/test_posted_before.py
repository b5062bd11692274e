"""Flows as earlier versions have posted them, kept in ``posted/``: this version finishes them, forward and back.

A file is made by ``HOSTLER_KEEP_POSTED=NAME`` when a version is released, and never changed afterwards.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from hostler.errors import MigrationError
from hostler.records import moves
from hostler.records.models import AtomRow, FlowRow, new_uuid
from tests.support.world import World, failing, step

KEPT = sorted(Path(__file__).parent.glob("posted/*.json"))
#: Of a step's row, what is there before it has begun.
COLUMNS = ("position", "name", "version", "state", "intention", "results")


def kept(session: Session, flow_uuid: str) -> dict[str, Any]:
    """Return what a version has posted."""
    flow = session.get(FlowRow, flow_uuid)
    assert flow is not None
    atoms = session.scalars(select(AtomRow).where(AtomRow.flow_uuid == flow_uuid).order_by(AtomRow.position))
    steps = [{name: getattr(atom, name) for name in COLUMNS} for atom in atoms]
    return {"name": flow.name, "meta": flow.meta, "atoms": steps}


def put_in_place(session: Session, flow_uuid: str, posted: dict[str, Any]) -> None:
    """Let a flow be what that version would have posted."""
    session.execute(delete(AtomRow).where(AtomRow.flow_uuid == flow_uuid))
    session.execute(
        update(FlowRow).where(FlowRow.uuid == flow_uuid).values(name=posted["name"], meta=posted["meta"])
    )
    session.execute(
        insert(AtomRow),
        [{"uuid": new_uuid(), "flow_uuid": flow_uuid, "meta": {}, **atom} for atom in posted["atoms"]],
    )


def ask(world: World, posted: dict[str, Any]) -> str:
    """Post a migration as that version would have; return its uuid."""
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    with world.database.transaction() as session:
        put_in_place(session, moves.get(session, number).flow_uuid, posted)
    return number


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
@pytest.mark.parametrize("fails", [None, "HandOver"])
def test_what_an_earlier_version_posted_is_finished(world: World, file: Path, fails: str | None) -> None:
    posted = json.loads(file.read_text())
    server = world.add_server()
    before = world.look()
    number = ask(world, posted)

    if fails:
        with failing(step("cold_migration", fails), MigrationError("on purpose"), when="before"):
            world.run()
        assert world.migration(number).outcome == "reverted"
        assert world.look() == before
        number = ask(world, posted)
    world.run()
    assert (world.migration(number).outcome, world.instance(server).host) == ("success", "kvm2")

    world.client.confirm("web1", requested_by="tester")
    world.run()
    assert world.migration(number).status == "confirmed"


@pytest.mark.skipif("HOSTLER_KEEP_POSTED" not in os.environ, reason="only when a version is released")
def test_keep_what_this_version_posts(world: World) -> None:
    world.add_server()
    number = world.client.migrate("web1", "kvm2", requested_by="tester")
    with world.database.reading() as session:
        posted = kept(session, moves.get(session, number).flow_uuid)
    file = Path(__file__).parent / "posted" / f"{os.environ['HOSTLER_KEEP_POSTED']}.json"
    file.write_text(json.dumps(posted, indent=1) + "\n")
