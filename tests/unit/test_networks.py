"""What an operator types of networks' names, whatever these are."""

from __future__ import annotations

import shlex

import pytest

from hostler import networks


@pytest.mark.parametrize(
    ("typed", "there", "here"),
    [
        ("br0=br1", ":br0", ":br1"),
        ("bridge:br0=bridge:br1", "bridge:br0", "bridge:br1"),
        ("network:a b=network:c d", "network:a b", "network:c d"),
        ("network:a=b=network:c=d", "network:a=b", "network:c=d"),
        ("direct:eth0=direct:eth1", "direct:eth0", "direct:eth1"),
        ("my:net=other:net", ":my:net", ":other:net"),
        ("a=b=c", ":a", ":b=c"),
        ("$(reboot)=';--", ":$(reboot)", ":';--"),
    ],
)
def test_a_pair_is_read_and_typed_again_as_it_was(typed: str, there: str, here: str) -> None:
    pair = networks.read_pair(typed)
    assert pair == (there, here)
    assert networks.words(dict([pair])) == [f"--map-network={typed}"]
    assert shlex.split(shlex.join(networks.words(dict([pair])))) == [f"--map-network={typed}"]


@pytest.mark.parametrize(
    "typed",
    [
        *("", "=", "br0", "br0=", "=br1", "bridge:=bridge:br1", "bridge:br0=network:lab", "bridge:br0=br1"),
        *("br0=bridge:br1", "a=b\n", "a\x1b=b", f"a={'b' * 256}"),
    ],
)
def test_half_a_pair_is_none(typed: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form|another kind"):
        networks.read_pair(typed)


def test_a_name_alone_is_whatever_is_called_so() -> None:
    asked = {":lab": ":default", "bridge:br0": "bridge:br1"}
    assert networks.renamed("network:lab", asked) == "network:default"
    assert networks.renamed("bridge:lab", asked) == "bridge:default"
    assert networks.renamed("bridge:br0", asked) == "bridge:br1"
    assert networks.renamed("network:br0", asked) is None


def test_a_kind_that_is_named_goes_before_a_name_alone() -> None:
    asked = {":lab": ":default", "bridge:lab": "bridge:br1"}
    assert networks.renamed("bridge:lab", asked) == "bridge:br1"
    assert networks.renamed("network:lab", asked) == "network:default"


def test_a_network_that_is_called_like_a_bridge_is_none() -> None:
    assert networks.renamed("network:bridge:br0", {"bridge:br0": "bridge:br1"}) is None
    assert networks.renamed("bridge:br0", {":bridge:br0": ":x"}) is None


def test_what_is_not_used_is_told_as_it_was_typed() -> None:
    asked = {":lab": ":x", "bridge:br0": "bridge:y", ":br9": ":z", "network:br0": "network:u"}
    assert networks.unused(asked, ["network:lab", "bridge:br0"]) == ["br9", "network:br0"]
    assert networks.unused(asked, []) == ["lab", "bridge:br0", "br9", "network:br0"]
