"""Backing chains are read from the headers, as the declared format and as nothing else."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from hostler.drivers.files import chain as chain_module
from hostler.drivers.files.chain import Chain, Chains


@pytest.fixture
def follow(source: Any) -> Any:
    def call(path: str, image_format: str = "qcow2") -> Chain:
        return Chains(lambda name: source.at(name)).of(path, image_format)

    return call


def test_a_chain_is_followed_to_its_end(source: Any, follow: Any) -> None:
    source.write("/base/a.raw")
    source.overlay("/base/b.qcow2", "a.raw")
    top = source.overlay("/pool/top.qcow2", "../base/b.qcow2", "qcow2")
    assert follow(top) == Chain(1 << 20, ["/base/b.qcow2", "/base/a.raw"], ["qcow2", "raw"])


def test_an_image_with_internal_snapshots_in_its_backing_file(source: Any, follow: Any) -> None:
    base = source.image("/pool/base.qcow2")
    subprocess.run(["qemu-img", "snapshot", "-c", "before", str(source.at(base))], check=True)
    top = source.overlay("/pool/top.qcow2", base, "qcow2")
    assert follow(top) == Chain(1 << 20, [base], ["qcow2"])


def test_a_raw_disk_has_no_chain_whatever_a_guest_wrote_into_it(source: Any, follow: Any) -> None:
    source.overlay("/pool/evil.raw", "/etc/shadow")
    size = source.at("/pool/evil.raw").stat().st_size
    assert follow("/pool/evil.raw", "raw") == Chain(size, [], [])


def test_a_backing_file_of_raw_format_ends_the_chain(source: Any, follow: Any) -> None:
    source.overlay("/pool/evil.raw", "/etc/shadow")
    top = source.overlay("/pool/top.qcow2", "evil.raw", "raw")
    assert follow(top).backing == ["/pool/evil.raw"]


def test_an_image_being_written_is_readable(source: Any, follow: Any) -> None:
    path = source.image("/pool/a.qcow2")
    writer = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(source.at(path))], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert follow(path).problems == []
    writer.communicate(b"quit\n")


def test_a_backing_file_of_undeclared_format_is_not_probed(source: Any, follow: Any) -> None:
    source.write("/pool/base.raw")
    top = source.overlay("/pool/top.qcow2", "base.raw")
    header = source.at(top).read_bytes()
    declares_format = bytes.fromhex("e2792aca")  # docs/interop/qcow2.txt: header extension
    assert declares_format in header
    source.at(top).write_bytes(header.replace(declares_format, b"none", 1))
    (problem,) = follow(top).problems
    assert problem.startswith("/pool/top.qcow2 does not say of which format its backing file base.raw is")
    assert problem.endswith("qemu-img rebase -u -f qcow2 -F FORMAT -b base.raw /pool/top.qcow2")


@pytest.mark.parametrize(
    "name",
    ["nbd:localhost:10809", "http://example.org/a", 'json:{"driver":"raw"}', "file:/etc/shadow", "a:b"],
)
def test_what_is_not_a_plain_file_is_not_followed(source: Any, follow: Any, name: str) -> None:
    top = source.overlay("/pool/top.qcow2", name)
    assert follow(top).problems == [f"/pool/top.qcow2 is backed by {name}, which is not a plain file"]


def test_a_colon_after_a_slash_is_no_protocol(source: Any, follow: Any) -> None:
    source.write("/pool/a:b")
    assert follow(source.overlay("/pool/top.qcow2", "./a:b")).backing == ["/pool/a:b"]


def test_an_external_data_file_is_refused_before_anything_opens_it(
    source: Any, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source.image("/pool/a.qcow2", "-o", f"data_file={source.at('/pool')}/data")
    monkeypatch.setattr(chain_module, "_qemu_img_info", None)
    assert follow(path).problems == [
        "/pool/a.qcow2 keeps its data in another file (data_file), which cannot be moved with it"
    ]


def test_an_image_in_several_files_is_refused(source: Any, follow: Any) -> None:
    source.at("/pool").mkdir()
    where = str(source.at("/pool/a.vmdk"))
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", where, "1M"], check=True
    )
    (problem,) = follow("/pool/a.vmdk", "vmdk").problems
    assert "keeps its data in another file" in problem
    assert "a-flat.vmdk" in problem


@pytest.mark.parametrize("image_format", ["qcow2", "vmdk", "vdi", "vpc", "vhdx", "qed", "qcow"])
def test_every_image_format_tells_its_size(source: Any, follow: Any, image_format: str) -> None:
    path = source.image("/pool/a", image_format=image_format, size="8M")
    chain = follow(path, image_format)
    assert chain.problems == []
    assert chain.virtual_bytes >= 8 << 20


@pytest.mark.parametrize("image_format", ["nbd", "host_device", "raw,file.filename=/etc/shadow", ""])
def test_a_format_that_is_none_is_refused(source: Any, follow: Any, image_format: str) -> None:
    path = source.write("/pool/a")
    (problem,) = follow(path, image_format).problems
    assert problem == f"/pool/a is declared to be of format {image_format!r}, which is not an image file's"


def test_a_loop_is_seen(source: Any, follow: Any) -> None:
    source.overlay("/pool/a.qcow2", "b.qcow2", "qcow2")
    source.overlay("/pool/b.qcow2", "a.qcow2", "qcow2")
    assert follow("/pool/a.qcow2").problems == [
        "the backing chain of /pool/a.qcow2 leads back to /pool/a.qcow2"
    ]


def test_a_chain_has_a_greatest_length(source: Any, follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "MAX_DEPTH", 3)
    source.write("/pool/0.raw")
    source.overlay("/pool/1", "0.raw")
    for number in (2, 3):
        source.overlay(f"/pool/{number}", str(number - 1), "qcow2")
    assert follow("/pool/2").problems == []
    assert follow("/pool/3").problems == ["the backing chain of /pool/3 is longer than 3 images"]


def test_a_missing_backing_file_is_named(source: Any, follow: Any) -> None:
    top = source.overlay("/pool/top.qcow2", "gone.raw")
    assert follow(top).problems == [
        "/pool/gone.raw, behind /pool/top.qcow2, cannot be read: No such file or directory"
    ]


def test_a_backing_name_through_a_link_is_not_misread(source: Any, follow: Any) -> None:
    source.write("/base/b.raw")
    source.write("/ssd/base/b.raw")
    source.overlay("/ssd/pool/top.qcow2", "../base/b.raw")
    source.at("/pool").symlink_to(source.at("/ssd/pool"))
    (problem,) = follow("/pool/top.qcow2").problems
    assert problem == "/pool/top.qcow2 is backed by ../base/b.raw, which leads through a symbolic link"


def test_a_broken_header_is_a_sentence(source: Any, follow: Any) -> None:
    path = source.write("/pool/a.qcow2", "no image")
    (problem,) = follow(path).problems
    assert problem.startswith("/pool/a.qcow2 cannot be read as qcow2: ")
    assert "qemu-img: " not in problem
