"""The tables of hostler 0.1."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UUID = sa.String(36)
WORD = sa.String(255)
NUMBER = sa.BigInteger()
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
JSON = sa.JSON()
#: None is the database's NULL, not JSON's null.
NULLABLE_JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    _hosts()
    _flavors()
    _instances()
    _groups()
    _migrations()
    _of_a_leg()
    _held()
    _quotas()
    _of_a_copy()
    _outbox()
    _flows()
    _atoms()


def _column(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _optional(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def _hosts() -> None:
    op.create_table(
        "hosts",
        _column("name", WORD),
        _column("address", WORD),
        _column("vcpus", NUMBER),
        _column("memory_mb", NUMBER),
        _column("local_disk_bytes", NUMBER),
        _column("cpu_allocation_ratio", sa.Double()),
        _column("ram_allocation_ratio", sa.Double()),
        _column("disk_allocation_ratio", sa.Double()),
        _column("reserved_host_memory_mb", NUMBER),
        _column("hypervisor_version", WORD),
        _column("worker_version", WORD),
        _optional("disabled_reason", sa.Text()),
        _optional("switched_by", WORD),
        _optional("switched_at", TIME),
        _optional("capabilities", JSON),
        _column("claims_generation", NUMBER),
        _column("updated_at", TIME),
        sa.PrimaryKeyConstraint("name", name="pk_hosts"),
    )


def _flavors() -> None:
    op.create_table(
        "flavors",
        _column("id", WORD),
        _column("name", WORD),
        _column("vcpus", NUMBER),
        _column("memory_mb", NUMBER),
        _column("root_gb", NUMBER),
        _column("ephemeral_gb", NUMBER),
        _column("swap_mb", NUMBER),
        sa.PrimaryKeyConstraint("id", name="pk_flavors"),
        sa.UniqueConstraint("name", name="uq_flavors_name"),
    )


def _instances() -> None:
    op.create_table(
        "instances",
        _column("uuid", UUID),
        _column("name", WORD),
        _column("host", WORD),
        _column("vm_state", WORD),
        _optional("task_state", WORD),
        _column("power_state", WORD),
        _column("vcpus", NUMBER),
        _column("memory_mb", NUMBER),
        _column("disk_bytes", NUMBER),
        _optional("flavor_id", WORD),
        _column("project_id", WORD),
        _optional("locked_reason", sa.Text()),
        _optional("locked_by", WORD),
        _optional("locked_at", TIME),
        _column("requirements", JSON),
        _column("created_at", TIME),
        _column("updated_at", TIME),
        _optional("launched_at", TIME),
        sa.PrimaryKeyConstraint("uuid", name="pk_instances"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_instances_host"),
        sa.ForeignKeyConstraint(["flavor_id"], ["flavors.id"], name="fk_instances_flavor_id"),
    )
    op.create_index("ix_instances_name", "instances", ["name"])
    op.create_index("ix_instances_host", "instances", ["host"])
    op.create_index("ix_instances_project_id", "instances", ["project_id"])


def _groups() -> None:
    op.create_table(
        "server_groups",
        _column("name", WORD),
        _column("policy", WORD),
        _column("created_at", TIME),
        sa.PrimaryKeyConstraint("name", name="pk_server_groups"),
    )
    op.create_table(
        "server_group_members",
        _column("instance_uuid", UUID),
        _column("group_name", WORD),
        sa.PrimaryKeyConstraint("instance_uuid", name="pk_server_group_members"),
        sa.ForeignKeyConstraint(
            ["instance_uuid"],
            ["instances.uuid"],
            name="fk_server_group_members_instance_uuid",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["group_name"],
            ["server_groups.name"],
            name="fk_server_group_members_group_name",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_server_group_members_group_name", "server_group_members", ["group_name"])


def _migrations() -> None:
    op.create_table(
        "migrations",
        _column("uuid", UUID),
        _column("instance_uuid", UUID),
        _column("instance_name", WORD),
        _column("migration_type", WORD),
        _column("status", WORD),
        _column("phase", WORD),
        _column("source_compute", WORD),
        _column("dest_compute", WORD),
        _optional("old_vm_state", WORD),
        _optional("old_flavor", NULLABLE_JSON),
        _optional("new_flavor", NULLABLE_JSON),
        _column("flow_name", WORD),
        _column("flow_uuid", UUID),
        _optional("outcome", WORD),
        _optional("error", sa.Text()),
        _optional("hint", sa.Text()),
        _column("request_id", WORD),
        _column("requested_by", WORD),
        _optional("cancel_reason", sa.Text()),
        _optional("down_host", WORD),
        _optional("report", JSON),
        _optional("excluded", JSON),
        _column("attempt", NUMBER),
        _optional("retry_of", UUID),
        _column("created_at", TIME),
        _column("updated_at", TIME),
        _optional("finished_at", TIME),
        sa.PrimaryKeyConstraint("uuid", name="pk_migrations"),
    )
    for column in ("instance_uuid", "phase", "retry_of", "created_at"):
        op.create_index(f"ix_migrations_{column}", "migrations", [column])


def _of_a_leg() -> None:
    op.create_table(
        "fences",
        _column("migration_uuid", UUID),
        _column("epoch", NUMBER),
        sa.PrimaryKeyConstraint("migration_uuid", name="pk_fences"),
    )
    op.create_table(
        "journal",
        _column("migration_uuid", UUID),
        _column("task", WORD),
        _column("key", WORD),
        _column("state", WORD),
        _column("data", JSON),
        _column("updated_at", TIME),
        sa.PrimaryKeyConstraint("migration_uuid", "task", "key", name="pk_journal"),
    )
    op.create_table(
        "debts",
        _column("host", WORD),
        _column("migration_uuid", UUID),
        _column("task", WORD),
        _column("flow_uuid", UUID),
        _column("position", NUMBER),
        _column("created_at", TIME),
        sa.PrimaryKeyConstraint("host", "migration_uuid", "task", name="pk_debts"),
    )
    op.create_table(
        "events",
        _column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        _column("migration_uuid", UUID),
        _column("at", TIME),
        _column("host", WORD),
        _column("kind", WORD),
        _column("text", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_migration", "events", ["migration_uuid", "id"])


def _held() -> None:
    op.create_table(
        "claims",
        _column("migration_uuid", UUID),
        _column("host", WORD),
        _column("vcpus", NUMBER),
        _column("memory_mb", NUMBER),
        _column("disk_bytes", NUMBER),
        sa.PrimaryKeyConstraint("migration_uuid", "host", name="pk_claims"),
    )
    op.create_table(
        "bindings",
        _column("instance_uuid", UUID),
        _column("port", WORD),
        _column("host", WORD),
        _column("active", sa.Boolean()),
        _column("network", WORD),
        _optional("migration_uuid", UUID),
        sa.PrimaryKeyConstraint("instance_uuid", "port", "host", name="pk_bindings"),
    )


def _quotas() -> None:
    op.create_table(
        "projects",
        _column("id", WORD),
        _column("quota_generation", NUMBER),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
    )
    op.create_table(
        "quotas",
        _column("project_id", WORD),
        _column("resource", WORD),
        _column("hard_limit", NUMBER),
        sa.PrimaryKeyConstraint("project_id", "resource", name="pk_quotas"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_quotas_project_id"),
    )
    op.create_table(
        "reservations",
        _column("migration_uuid", UUID),
        _column("project_id", WORD),
        _column("instances", NUMBER),
        _column("cores", NUMBER),
        _column("ram", NUMBER),
        _column("disk", NUMBER),
        _column("created_at", TIME),
        sa.PrimaryKeyConstraint("migration_uuid", name="pk_reservations"),
    )
    op.create_index("ix_reservations_project_id", "reservations", ["project_id"])


def _of_a_copy() -> None:
    op.create_table(
        "receivers",
        _column("migration_uuid", UUID),
        _column("host", WORD),
        _column("address", JSON),
        sa.PrimaryKeyConstraint("migration_uuid", name="pk_receivers"),
    )
    op.create_table(
        "progress",
        _column("migration_uuid", UUID),
        _column("name", WORD),
        _column("path", sa.Text()),
        _column("done_bytes", NUMBER),
        _column("total_bytes", NUMBER),
        _column("rate_bytes_per_s", NUMBER),
        _column("updated_at", TIME),
        sa.PrimaryKeyConstraint("migration_uuid", "name", name="pk_progress"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        _column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        _column("migration_uuid", UUID),
        _column("driver", WORD),
        _column("message_id", UUID),
        _column("message", JSON),
        _column("attempts", NUMBER),
        _column("created_at", TIME),
        _column("due_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("message_id", "driver", name="uq_outbox_message_id"),
    )
    op.create_index("ix_outbox_queue", "outbox", ["migration_uuid", "driver", "id"])


def _flows() -> None:
    op.create_table(
        "flows",
        _column("uuid", UUID),
        _column("migration_uuid", UUID),
        _column("name", WORD),
        _optional("state", WORD),
        _column("meta", JSON),
        _column("created_at", TIME),
        sa.PrimaryKeyConstraint("uuid", name="pk_flows"),
    )
    op.create_index("ix_flows_migration_uuid", "flows", ["migration_uuid"])


def _atoms() -> None:
    op.create_table(
        "atoms",
        _column("uuid", UUID),
        _column("flow_uuid", UUID),
        _column("position", NUMBER),
        _column("name", WORD),
        _optional("version", WORD),
        _optional("state", WORD),
        _optional("intention", WORD),
        _optional("results", NULLABLE_JSON),
        _optional("failure", NULLABLE_JSON),
        _optional("revert_results", NULLABLE_JSON),
        _optional("revert_failure", NULLABLE_JSON),
        _optional("meta", NULLABLE_JSON),
        _optional("started_at", TIME),
        _optional("finished_at", TIME),
        _optional("revert_started_at", TIME),
        _optional("revert_finished_at", TIME),
        sa.PrimaryKeyConstraint("uuid", name="pk_atoms"),
        sa.ForeignKeyConstraint(["flow_uuid"], ["flows.uuid"], name="fk_atoms_flow_uuid", ondelete="CASCADE"),
    )
    op.create_index("ix_atoms_flow_uuid", "atoms", ["flow_uuid"])
