"""What kinds of guest a host can run, as libvirt tells: architectures, machine types, CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

import libvirt

from hostler.drivers.hypervisor import domain_xml
from hostler.objects import GuestKind


def of_host(connection: Any) -> list[GuestKind]:
    """Return them; CPUs only of the host's own architecture, on which guests are as a rule."""
    root = domain_xml.parse(connection.getCapabilities())
    own = root.findtext("host/cpu/arch", "")
    return [kind for guest in root.findall("guest") for kind in _kinds(connection, guest, own)]


def _kinds(connection: Any, guest: Element, own: str) -> Iterator[GuestKind]:
    for arch in guest.findall("arch"):
        name = arch.get("name", "")
        for domain in arch.findall("domain"):
            virt_type = domain.get("type", "")
            nested = domain if domain.find("machine") is not None else arch
            modes, unusable = _cpus(connection, name, virt_type) if name == own else ([], [])
            yield GuestKind(name, virt_type, _machines(nested), modes, unusable)


def _machines(element: Element) -> list[str]:
    found = element.findall("machine")
    names = {text for machine in found for text in (machine.text, machine.get("canonical")) if text}
    return sorted(names)


def _cpus(connection: Any, arch: str, virt_type: str) -> tuple[list[str], list[str]]:
    """Return the CPU modes that such a guest may have, and the named models that it may not."""
    try:
        answer = connection.getDomainCapabilities(None, arch, None, virt_type)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG):
            return [], []
        raise
    modes = domain_xml.parse(answer).findall("cpu/mode")
    models = [model for mode in modes if mode.get("name") == "custom" for model in mode.findall("model")]
    return (
        sorted(mode.get("name", "") for mode in modes if mode.get("supported") == "yes"),
        sorted(model.text for model in models if model.text and model.get("usable") == "no"),
    )
