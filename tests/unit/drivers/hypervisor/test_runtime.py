"""What is asked of libvirt of all domains, while some of them go."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import libvirt
import pytest

from hostler.drivers.hypervisor import runtime


def failing(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("on purpose")
    error.err = (code, 0, "on purpose", 1, "", "", "", -1, -1)
    return error


def connection(*domains: mock.Mock) -> SimpleNamespace:
    return SimpleNamespace(listAllDomains=lambda _flags: list(domains))


def domain(uuid: str, **methods: object) -> mock.Mock:
    return mock.Mock(**{"UUIDString.return_value": uuid, "isActive.return_value": 0, **methods})


def test_a_domain_that_goes_meanwhile_counts_no_more() -> None:
    stays = domain("1", **{"XMLDesc.return_value": "<domain/>"})
    goes = domain("2", **{"XMLDesc.side_effect": failing(libvirt.VIR_ERR_NO_DOMAIN)})
    assert runtime.definitions(connection(stays, goes)) == {"1": ["<domain/>"]}


def test_one_that_libvirt_cannot_tell_of_is_not_taken_for_gone() -> None:
    silent = domain("1", **{"XMLDesc.side_effect": failing(libvirt.VIR_ERR_OPERATION_TIMEOUT)})
    with pytest.raises(libvirt.libvirtError):
        runtime.definitions(connection(silent))
