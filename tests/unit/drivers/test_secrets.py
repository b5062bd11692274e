"""Secrets of libvirt that disks need: looked for by UUID or by use, and never said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import libvirt
import pytest

from hostler.drivers import secrets
from hostler.objects import Secret

UUID = "33333333-3333-4333-8333-333333333333"


def failure(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("refused")
    error.err = (code, 0, "refused", 0, None, None, None, 0, 0)
    return error


@dataclass
class Kept:
    """A secret as libvirt's binding has it; *answer*: its value, or the number of the error instead."""

    answer: bytes | int

    def value(self) -> bytes:
        if isinstance(self.answer, int):
            raise failure(self.answer)
        return self.answer

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return UUID


class Connection:
    """A libvirt that has one secret, or none."""

    def __init__(self, kept: Kept | None, code: int = libvirt.VIR_ERR_NO_SECRET) -> None:
        self._kept = kept
        self._code = code
        self.asked: list[tuple[Any, ...]] = []

    def secretLookupByUUIDString(self, uuid: str) -> Kept:  # noqa: N802
        return self._find(uuid)

    def secretLookupByUsage(self, kind: int, usage: str) -> Kept:  # noqa: N802
        return self._find(kind, usage)

    def _find(self, *asked: Any) -> Kept:
        self.asked.append(asked)
        if self._kept is None:
            raise failure(self._code)
        return self._kept


BY_USE = Secret("ceph", usage="client.libvirt secret")


@pytest.mark.parametrize("secret", [Secret("volume", UUID), BY_USE])
def test_a_secret_with_a_value_is_no_problem(secret: Secret) -> None:
    connection = Connection(Kept(b"key"))
    assert secrets.problem(connection, secret) == ""
    assert secrets.value(connection, secret) == b"key"
    use = (libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "client.libvirt secret")
    assert connection.asked[0] == ((UUID,) if secret.uuid else use)


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_NO_SECRET, libvirt.VIR_ERR_INVALID_ARG])
def test_a_secret_that_is_not_there_is_said_with_what_makes_one(code: int) -> None:
    connection = Connection(None, code)
    assert secrets.problem(connection, BY_USE) == (
        "libvirt has no secret client.libvirt secret; virsh secret-define makes one"
    )
    assert secrets.value(connection, BY_USE) is None


def test_a_secret_without_a_value_is_said_with_what_sets_it() -> None:
    connection = Connection(Kept(libvirt.VIR_ERR_NO_SECRET))
    assert f"has no value; virsh secret-set-value {UUID} --file FILE sets it" in secrets.problem(
        connection, BY_USE
    )
    assert secrets.value(connection, BY_USE) is None


def test_a_private_secret_is_left_to_libvirt() -> None:
    connection = Connection(Kept(libvirt.VIR_ERR_INVALID_SECRET))
    assert secrets.problem(connection, BY_USE) == ""
    assert secrets.value(connection, BY_USE) is None


def test_a_libvirt_that_fails_is_not_taken_for_one_without_secrets() -> None:
    for kept in (None, Kept(libvirt.VIR_ERR_RPC)):
        connection = Connection(kept, libvirt.VIR_ERR_RPC)
        for ask in (secrets.problem, secrets.value):
            with pytest.raises(libvirt.libvirtError):
                ask(connection, BY_USE)
