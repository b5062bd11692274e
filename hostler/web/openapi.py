"""The API's operations: one table, from which both the routes and the OpenAPI document are made."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any

from hostler import __version__
from hostler.views import listing
from hostler.web import told

PREFIX = "/api/v1"
#: Migrations of a page at most.
MOST = 500
#: Characters of a reason at most.
REASON = 1000


@dataclass(frozen=True)
class Operation:
    """A path below :data:`PREFIX`; *name* is that of the method that answers."""

    method: str
    path: str
    name: str
    summary: str
    answer: type


OPERATIONS = (
    Operation(
        "GET", "/migrations", "migrations", "The migrations, the latest first, in pages", told.ListPage
    ),
    Operation(
        "GET", "/migrations/{uuid}", "migration", "One migration, with its steps and disks", told.Shown
    ),
    Operation("GET", "/migrations/{uuid}/history", "history", "What happened to it, in order", told.Timeline),
    Operation("POST", "/migrations/{uuid}/{verb}", "act", "Ask something of it (operators)", told.Accepted),
    Operation("GET", "/hosts", "hosts", "The hosts and their workers", told.HostList),
)

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def document() -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    problem = _schema(told.Problem, schemas)
    for one in OPERATIONS:
        answers = {"200": _content("It is so", _schema(one.answer, schemas))}
        answers["default"] = _content("Why not", problem)
        paths.setdefault(PREFIX + one.path, {})[one.method.lower()] = {
            "operationId": one.name,
            "summary": one.summary,
            "parameters": _parameters(one),
            "responses": answers,
        } | (_BODY if one.method == "POST" else {})
    bearer = {"type": "http", "scheme": "bearer", "description": "hostler token create NAME"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "hostler", "version": __version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": bearer}},
    }


_BODY = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"reason": {"type": "string", "maxLength": REASON}},
                    "additionalProperties": False,
                }
            }
        }
    }
}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = []
    if "{uuid}" in operation.path:
        found.append({"name": "uuid", "in": "path", "required": True, "schema": {"type": "string"}})
    if "{verb}" in operation.path:
        schema = {"enum": list(told.VERBS)}
        found.append({"name": "verb", "in": "path", "required": True, "schema": schema})
    if operation.name == "migrations":
        limit = {"type": "integer", "minimum": 1, "maximum": MOST, "default": listing.PAGE}
        query = {
            "state": {"enum": list(listing.STATES)},
            "server": {"type": "string"},
            "host": {"type": "string"},
            "limit": limit,
            "after": {"type": "string"},
        }
        found += [{"name": name, "in": "query", "schema": schema} for name, schema in query.items()]
    return found


def _content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field's type; records go into *schemas*."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if isinstance(kind, types.UnionType):
        return {"anyOf": [_schema(one, schemas) for one in typing.get_args(kind)]}
    if typing.get_origin(kind) is list:
        return {"type": "array", "items": _schema(typing.get_args(kind)[0], schemas)}
    if kind.__name__ not in schemas:
        hints = typing.get_type_hints(kind)
        names = [one.name for one in dataclasses.fields(kind)]
        schemas[kind.__name__] = {
            "type": "object",
            "description": (kind.__doc__ or "").strip(),
            "properties": {name: _schema(hints[name], schemas) for name in names},
            "required": names,
            "additionalProperties": False,
        }
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
