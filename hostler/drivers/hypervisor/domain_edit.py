"""Change libvirt's domain XML in one place and leave all the rest as it was written.

The DOM keeps prefixes, comments and other people's metadata; ElementTree would rename every prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.dom.minidom import Document, Element, Node
from xml.parsers.expat import ExpatError

import defusedxml.minidom
from defusedxml import DefusedXmlException

from hostler import errors
from hostler.drivers.hypervisor.domain_xml import MARK_NAMESPACE, source_attribute
from hostler.drivers.volumes.addresses import split
from hostler.objects import Volume


def mark(xml: str, migration: str | None) -> str:
    """Return *xml* with our mark set to *migration*, or without it for None."""
    document = parse(xml)
    domain = root(document)
    metadata = child(domain, "metadata")
    if metadata is not None:
        _remove_marks(metadata)
    if migration is not None:
        if metadata is None:
            metadata = document.createElement("metadata")
            _insert_after_head(domain, metadata)
        element = document.createElementNS(MARK_NAMESPACE, "hostler:migration")
        element.setAttribute("xmlns:hostler", MARK_NAMESPACE)
        element.appendChild(document.createTextNode(migration))
        metadata.appendChild(element)
    elif metadata is not None and not any(each.nodeType == Node.ELEMENT_NODE for each in metadata.childNodes):
        domain.removeChild(metadata)
    return write(document)


def relocate(xml: str, ports: Mapping[str, str], volumes: Mapping[str, Volume] | None = None) -> str:
    """Return *xml* with each ``<interface>`` plugged where *ports* says (``network:a`` -> ``bridge:b``).

    *volumes*: by the guest's name for a disk, what it opens then: *name* and *hosts*, or *path*.

    The XML of a snapshot, which holds a domain's, is taken, too.
    """
    document = parse(xml)
    for interface in document.getElementsByTagName("interface"):
        kind = interface.getAttribute("type")
        for source in children(interface, "source"):
            key = f"{kind}:{source.getAttribute(source_attribute(kind))}"
            new_kind, _, name = ports.get(key, key).partition(":")
            if f"{new_kind}:{name}" != key:
                if source.hasAttribute(source_attribute(kind)):
                    source.removeAttribute(source_attribute(kind))
                interface.setAttribute("type", new_kind)
                source.setAttribute(source_attribute(new_kind), name)
    for disk in document.getElementsByTagName("disk"):
        target, opened = child(disk, "target"), child(disk, "source")
        volume = (volumes or {}).get(target.getAttribute("dev")) if target is not None else None
        if volume is not None and opened is not None:
            _connect(document, disk.getAttribute("type"), opened, volume)
    return write(document)


def parse(xml: str) -> Document:
    """Return the document; XML that cannot be read is :class:`hostler.errors.MigrationError`."""
    try:
        document: Document = defusedxml.minidom.parseString(xml, forbid_dtd=True)
    except (ExpatError, DefusedXmlException, ValueError) as error:
        raise errors.MigrationError(f"the XML of the domain cannot be read: {error}") from error
    return document


def write(document: Document) -> str:
    """Return the document as libvirt writes one."""
    return root(document).toxml() + "\n"


def root(document: Document) -> Element:
    """Return the outermost element."""
    assert document.documentElement is not None
    return document.documentElement


def child(parent: Element, name: str) -> Element | None:
    """Return the first child of that name."""
    return next(iter(children(parent, name)), None)


def children(parent: Element, name: str) -> list[Element]:
    """Return the children of that name."""
    return [each for each in parent.childNodes if isinstance(each, Element) and each.tagName == name]


def _connect(document: Document, kind: str, source: Element, volume: Volume) -> None:
    """Let a disk of that kind open *volume*; whatever else the source says stays."""
    if volume.path is not None and kind in ("block", "file"):
        source.setAttribute("dev" if kind == "block" else "file", volume.path)
    if volume.path is not None or kind != "network":
        return
    source.setAttribute("name", volume.name)
    for old in children(source, "host"):
        source.removeChild(old)
    for server in reversed(volume.hosts):
        host, (name, port) = document.createElement("host"), split(server)
        host.setAttribute("name", name)
        if port is not None:
            host.setAttribute("port", str(port))
        source.insertBefore(host, source.firstChild)


def _remove_marks(metadata: Element) -> None:
    for each in list(metadata.childNodes):
        if isinstance(each, Element) and each.namespaceURI == MARK_NAMESPACE:
            metadata.removeChild(each)


def _insert_after_head(domain: Element, metadata: Element) -> None:
    """Put it where libvirt itself writes it."""
    head = [each for name in ("name", "uuid", "title", "description") for each in children(domain, name)]
    after = domain.childNodes.index(head[-1]) + 1 if head else 0
    domain.childNodes.insert(after, metadata)
    metadata.parentNode = domain
