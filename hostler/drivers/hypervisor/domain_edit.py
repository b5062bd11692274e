"""Change libvirt's domain XML in one place and leave all the rest as it was written.

The DOM keeps prefixes, comments and other people's metadata; ElementTree would rename every prefix.
"""

from __future__ import annotations

from xml.dom.minidom import Document, Element, Node
from xml.parsers.expat import ExpatError

import defusedxml.minidom
from defusedxml import DefusedXmlException

from hostler import errors
from hostler.drivers.hypervisor.domain_xml import MARK_NAMESPACE, source_attribute


def mark(xml: str, migration: str | None) -> str:
    """Return *xml* with our mark set to *migration*, or without it for None."""
    document = _parse(xml)
    domain = _root(document)
    metadata = next(iter(_children(domain, "metadata")), None)
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
    elif metadata is not None and not any(
        child.nodeType == Node.ELEMENT_NODE for child in metadata.childNodes
    ):
        domain.removeChild(metadata)
    return _write(document)


def relocate(xml: str, ports: dict[str, str]) -> str:
    """Return *xml* with each ``<interface>`` plugged where *ports* says (``network:a`` -> ``bridge:b``).

    The XML of a snapshot, which holds a domain's, is taken, too.
    """
    document = _parse(xml)
    for interface in document.getElementsByTagName("interface"):
        kind = interface.getAttribute("type")
        for source in _children(interface, "source"):
            key = f"{kind}:{source.getAttribute(source_attribute(kind))}"
            new_kind, _, name = ports.get(key, key).partition(":")
            if f"{new_kind}:{name}" != key:
                if source.hasAttribute(source_attribute(kind)):
                    source.removeAttribute(source_attribute(kind))
                interface.setAttribute("type", new_kind)
                source.setAttribute(source_attribute(new_kind), name)
    return _write(document)


def _parse(xml: str) -> Document:
    try:
        document: Document = defusedxml.minidom.parseString(xml, forbid_dtd=True)
    except (ExpatError, DefusedXmlException, ValueError) as error:
        raise errors.MigrationError(f"the XML of the domain cannot be read: {error}") from error
    return document


def _write(document: Document) -> str:
    return _root(document).toxml() + "\n"


def _root(document: Document) -> Element:
    assert document.documentElement is not None
    return document.documentElement


def _children(parent: Element, name: str) -> list[Element]:
    return [child for child in parent.childNodes if isinstance(child, Element) and child.tagName == name]


def _remove_marks(metadata: Element) -> None:
    for child in list(metadata.childNodes):
        if isinstance(child, Element) and child.namespaceURI == MARK_NAMESPACE:
            metadata.removeChild(child)


def _insert_after_head(domain: Element, metadata: Element) -> None:
    """Put it where libvirt itself writes it."""
    head = [child for name in ("name", "uuid", "title", "description") for child in _children(domain, name)]
    after = domain.childNodes.index(head[-1]) + 1 if head else 0
    domain.childNodes.insert(after, metadata)
    metadata.parentNode = domain
