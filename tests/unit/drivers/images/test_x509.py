"""Certificates of a site's CA: each end sees who the other is, and only the source of this copy comes in."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from oslo_config import cfg

from hostler import conf, errors
from hostler.drivers.images import x509
from hostler.drivers.images.link import Broken, Link, NoAnswer
from hostler.drivers.images.receiver import NbdReceiver
from hostler.drivers.images.sender import NbdSender
from hostler.drivers.images.trials import Never
from hostler.jobboard.doctor import look
from hostler.objects import Export, Identity, ReceiverAddress

from .conftest import LOCALHOST, Always, Pair, allocated, dense, free_ports, make_pair, same, text

BOTH = "tls_www_server\ntls_www_client\nsigning_key"
PAST = 'activation_date = "2020-01-01 00:00:00"\nexpiration_date = "2021-01-01 00:00:00"'
SOURCE = f"cn = kvm1\ndns_name = kvm1\n{BOTH}"
DEST = f"cn = kvm2\nip_address = {LOCALHOST}\n{BOTH}"


class Site:
    """A directory with CAs, and with certificates that these have made."""

    def __init__(self, base: Path) -> None:
        self.base = base
        for ca in ("ca", "other-ca"):
            self._key(ca)
            words = ["--generate-self-signed", f"--load-privkey={self.key(ca)}"]
            self._certtool(f"cn = {ca}\nca\ncert_signing_key\ncrl_signing_key", *words, out=self.cert(ca))
        self.make("source", SOURCE)
        self.make("dest", DEST)
        self.make("stranger", f"cn = kvm9\nip_address = 10.0.0.9\n{BOTH}")
        for role, about in (("source", SOURCE), ("dest", DEST)):
            self.make(f"expired {role}", f"{about}\n{PAST}")
            self.make(f"{role} of another CA", about, ca="other-ca")
        self.make("common name", "cn = kvm1\ntls_www_client\nsigning_key")
        self.make("server", "cn = kvm1\ndns_name = kvm1\ntls_www_server\nsigning_key")
        self.make("renewed source", SOURCE)
        self.make("revoked source", SOURCE)
        words = [
            "--generate-crl",
            f"--load-certificate={self.cert('revoked source')}",
            *self._signed_by("ca"),
        ]
        self._certtool("crl_next_update = 90\ncrl_number = 1", *words, out=base / "crl.pem")

    def make(self, name: str, about: str, ca: str = "ca") -> None:
        self._key(name)
        words = ["--generate-certificate", f"--load-privkey={self.key(name)}", *self._signed_by(ca)]
        self._certtool(about, *words, out=self.cert(name))

    def cert(self, name: str) -> Path:
        return self.base / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.base / f"{name}.key"

    def files(self, who: str) -> x509.Files:
        cert, key = self.cert(who), self.key(who)
        return x509.Files(self.cert("ca"), self.base / "crl.pem", cert, key, cert, key)

    def _signed_by(self, ca: str) -> list[str]:
        return [f"--load-ca-certificate={self.cert(ca)}", f"--load-ca-privkey={self.key(ca)}"]

    def _key(self, name: str) -> None:
        self._certtool("", "--generate-privkey", "--key-type=ecdsa", out=self.key(name))

    def _certtool(self, template: str, *words: str, out: Path) -> None:
        (self.base / "template").write_text(template)
        command = ["certtool", *words, f"--template={self.base / 'template'}", f"--outfile={out}"]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    if shutil.which("certtool") is None:
        pytest.skip("no certtool here (Debian: gnutls-bin)")
    pytest.importorskip("nbd")
    return Site(tmp_path_factory.mktemp("site"))


@dataclasses.dataclass
class Hosts:
    """Two hosts of a site, and a disk that is to move."""

    site: Site
    pair: Pair
    disk: Export
    shown: Identity

    def open(self, migration: str | None = None, **changed: str) -> ReceiverAddress:
        disk = replace(self.disk, part=changed.pop("part", self.disk.part))
        shown = replace(self.shown, **changed)
        return self.pair.receiver.open(migration or self.pair.migration, [disk], LOCALHOST, shown)


@contextmanager
def hosts(site: Site, base: Path, dest: str = "dest", *, packed: bool = False) -> Iterator[Hosts]:
    pair = make_pair("nbd", base)
    ports = free_ports(4)

    def receiver() -> NbdReceiver:
        files = site.files(dest)
        return NbdReceiver(base / "state", base / "run", LOCALHOST, ports, certificates=files, unpack=packed)

    pair.receiver, pair.renew = receiver(), receiver
    choose = Always if packed else Never
    pair.sender = NbdSender(base / "run-source", certificates=site.files("source"), choose=choose)
    disk = pair.export("0", (text if packed else dense)(base / "src" / "disk", 3))
    yield Hosts(site, pair, disk, Identity("kvm1", pair.sender.certificate()))
    for migration in pair.receiver.open_migrations():
        pair.receiver.close(migration)


def test_a_host_that_does_not_answer_is_given_up(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostler.drivers.images.link.CONNECT_PATIENCE_S", 0.3)
    key = site.cert("source").read_text()
    with (
        socket.create_server((LOCALHOST, 0), backlog=0) as full,
        socket.socket() as one,
        socket.socket() as two,
    ):
        for client in (one, two):  # its queue is full: the kernel drops whoever comes then
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        address = ReceiverAddress(LOCALHOST, full.getsockname()[1], "", key)
        link = Link(address, "0", tmp_path, "/disk")
        began = time.monotonic()
        with pytest.raises(NoAnswer, match="timed out"):
            link.connect()
        link.close()
    assert time.monotonic() - began < 10


@pytest.fixture
def two(site: Site, tmp_path: Path) -> Iterator[Hosts]:
    with hosts(site, tmp_path) as made:
        yield made


def test_a_copy_between_hosts_that_show_certificates(two: Hosts) -> None:
    address = two.open()
    left = two.pair.send(address)
    assert two.pair.sender.mend(address, left, lambda: None, 10) == 0
    two.pair.receiver.close(two.pair.migration)
    two.pair.verify(two.disk, left[0])
    assert same(two.disk.source, two.disk.part)


def test_packed_blocks_go_to_who_shows_its_certificate(site: Site, tmp_path: Path) -> None:
    with hosts(site, tmp_path, packed=True) as two:
        two.pair.send(two.open())
        assert two.pair.progress[-1].sent_bytes < two.pair.progress[-1].done_bytes // 10
        assert same(two.disk.source, two.disk.part)


def test_a_receiver_that_comes_back_takes_the_same_certificate(two: Hosts) -> None:
    address = two.open()
    two.pair.kill_receiver()
    shutil.rmtree(two.pair.base / "run" / two.pair.migration)  # as after a reboot
    two.pair.receiver = two.pair.renew()
    two.pair.receiver.restore()
    two.pair.send(address)
    assert two.open() == address
    assert same(two.disk.source, two.disk.part)


def test_a_source_with_another_certificate_gets_another_one_for_its_copy(two: Hosts) -> None:
    before = two.open()
    two.pair.kill_receiver()
    renewed = two.open(certificate=two.site.cert("renewed source").read_text())
    assert renewed.key != before.key
    files = two.site.files("renewed source")
    sender = NbdSender(two.pair.base / "run-source", certificates=files)
    sender.send(renewed, lambda _: None, lambda: None, 10)
    assert same(two.disk.source, two.disk.part)


@pytest.mark.parametrize("confine", [True, False])
def test_the_doctor_sees_who_takes_images(two: Hosts, confine: bool) -> None:
    base = two.pair.base
    two.pair.receiver = NbdReceiver(
        base / "state",
        base / "run",
        LOCALHOST,
        free_ports(2),
        confine=confine,
        certificates=two.site.files("dest"),
    )
    two.pair.send(two.open())
    (stray,) = look._running(base / "run")
    assert (stray.migration, stray.process) == (two.pair.migration, two.pair.nbdkit())
    two.pair.receiver.close(two.pair.migration)
    assert not list(look._running(base / "run"))
    assert _holding(base, b"PRIVATE KEY") == set()


# -- a source that is not who it should be: refused before anything is touched ------------------------------


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("expired source", "uses expired certificate"),
        ("source of another CA", "issuer is unknown"),
        ("stranger", "name in the certificate does not match"),
        ("common name", "name in the certificate does not match"),
        ("server", "does not match the intended purpose"),
        ("revoked source", "revoked"),
    ],
)
def test_the_destination_refuses_a_source(two: Hosts, who: str, reason: str) -> None:
    with pytest.raises(errors.ReceiverUnavailable, match=f"no proof of kvm1: .*{reason}") as refused:
        two.open(certificate=two.site.cert(who).read_text())
    assert "certtool --certificate-info" in refused.value.hint
    assert not Path(two.disk.part).exists()
    assert two.pair.receiver.open_migrations() == []


@pytest.mark.parametrize(
    "shown", ["garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_refused(two: Hosts, shown: str) -> None:
    with pytest.raises(errors.ReceiverUnavailable, match="no proof of kvm1"):
        two.open(certificate=shown)


def test_a_name_in_the_certificate_may_be_the_sources_address(two: Hosts) -> None:
    two.open(name="elsewhere", certificate=two.site.cert("dest").read_text())
    assert two.pair.receiver.open_migrations() == [two.pair.migration]


# -- a destination that is not who it should be -------------------------------------------------------------

WRONG = ["expired dest", "dest of another CA", "stranger"]


@pytest.mark.parametrize("who", WRONG)
def test_a_destination_refuses_with_a_certificate_that_nobody_would_take(
    site: Site, tmp_path: Path, who: str
) -> None:
    with (
        hosts(site, tmp_path, who) as two,
        pytest.raises(errors.ReceiverUnavailable, match=f"{who}.pem is no proof of {LOCALHOST}: The"),
    ):
        two.open()


@pytest.mark.parametrize("who", WRONG)
def test_the_source_refuses_a_destination(
    site: Site, tmp_path: Path, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(x509.Files, "obstacle", lambda *_: None)  # a destination that has not looked
    with hosts(site, tmp_path, who) as two:
        address = two.open()
        with pytest.raises(errors.ImageTransferError, match=f"what {LOCALHOST} shows is not") as refused:
            two.pair.send(address)
        assert "certtool --certificate-info" in refused.value.hint
        assert allocated(two.disk.part) == 0


# -- who comes without being the source of this copy --------------------------------------------------------


def test_a_valid_certificate_of_the_same_ca_opens_nothing(two: Hosts) -> None:
    address = two.open()
    for who in ("stranger", "source"):  # not even the source's own: it is the copy's that counts
        shown = two.site.cert(who).read_text()
        with x509.for_sending(two.site.files(who), two.pair.base, replace(address, key=shown)) as files:
            link = Link(address, "0", files, two.disk.source)
            with pytest.raises(Broken):
                link.connect()
            link.close()


def test_the_copys_certificate_is_worth_nothing_without_the_sources_key(two: Hosts) -> None:
    address = two.open()
    sender = NbdSender(two.pair.base / "run-source", certificates=two.site.files("stranger"))
    with pytest.raises(errors.ImageTransferError, match="this host's key is another one"):
        sender.send(address, lambda _: None, lambda: None, 10)


def test_the_certificate_of_another_copy_opens_nothing(two: Hosts) -> None:
    address = two.open()
    foreign = two.open(str(uuid.uuid4()), part=two.disk.part + "-other")
    with pytest.raises(errors.ImageTransferError, match="no connection to the receiver"):
        two.pair.send(replace(address, key=foreign.key), timeout_s=0.3)
    assert allocated(two.disk.part) == 0


def test_a_certificate_opens_nothing_after_its_copy_has_ended(two: Hosts) -> None:
    before = two.open()
    two.pair.receiver.close(two.pair.migration)
    again = two.open()
    assert again.key != before.key
    with pytest.raises(errors.ImageTransferError, match="no connection to the receiver"):
        two.pair.send(replace(before, port=again.port), timeout_s=0.3)
    assert allocated(two.disk.part) == 0


# -- keys ---------------------------------------------------------------------------------------------------


def test_keys_are_in_no_log_and_on_no_command_line_and_go_with_the_copy(two: Hosts) -> None:
    address = two.open()
    base = two.pair.base
    secret = [two.site.key(who).read_text().splitlines()[-2].encode() for who in ("source", "dest")]
    seen: list[bytes] = []

    def look() -> None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(entry.read_bytes() + (entry.parent / "environ").read_bytes())
            except OSError:
                continue

    two.pair.send(address, look)
    assert seen
    assert not any(word in words for words in seen for word in secret)
    assert _holding(base, b"PRIVATE KEY") == {"server-key.pem"}
    (held,) = base.rglob("server-key.pem")
    assert stat.S_IMODE(held.stat().st_mode) == 0o600
    assert held.stat().st_uid == Path(f"/proc/{two.pair.nbdkit().pid}").stat().st_uid
    two.pair.receiver.close(two.pair.migration)
    assert _holding(base, b"PRIVATE KEY") == set()
    assert _holding(base, b"BEGIN CERTIFICATE") == set()


def _holding(base: Path, what: bytes) -> set[str]:
    small = (p for p in base.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size < 1 << 20)
    return {path.name for path in small if what in path.read_bytes()}


# -- settings -----------------------------------------------------------------------------------------------


def settings(site: Site, **changed: object) -> cfg.ConfigOpts:
    made = conf.load(["/dev/null"])
    given = {"tls": "x509", "x509_crl_file": "/nowhere"}
    for name in ("ca_file", "server_cert", "server_key", "client_cert", "client_key"):
        given[f"x509_{name}"] = str(getattr(site.files("dest"), name))
    for name, value in (given | changed).items():
        made.set_override(name, value, "images")
    return made


def test_the_settings_name_the_files(site: Site) -> None:
    assert x509.Files.from_conf(settings(site)) == replace(site.files("dest"), crl_file=Path("/nowhere"))
    assert x509.Files.from_conf(settings(site, tls="psk", x509_ca_file="/nowhere")) is None


@pytest.mark.parametrize("name", ["ca_file", "server_cert", "server_key", "client_cert", "client_key"])
def test_a_file_that_is_missing_is_refused_by_its_setting(site: Site, name: str) -> None:
    with pytest.raises(errors.BadConfiguration, match=rf"x509_{name}: /nowhere/it: No such file") as refused:
        x509.Files.from_conf(settings(site, **{f"x509_{name}": "/nowhere/it"}))
    assert refused.value.hint


def test_what_others_will_refuse_is_said_when_the_worker_starts(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.files("dest").complain("kvm2", LOCALHOST)
    assert not caplog.text
    site.files("expired dest").complain("kvm2", LOCALHOST)
    assert f"is no proof of {LOCALHOST}, and is refused" in caplog.text
    assert f"is no proof of kvm2 or {LOCALHOST}, and is refused" in caplog.text


def test_a_key_that_everybody_can_read_is_refused(site: Site, tmp_path: Path) -> None:
    key = tmp_path / "key"
    shutil.copy(site.key("dest"), key)
    key.chmod(0o644)
    with pytest.raises(errors.BadConfiguration, match="everybody can read"):
        x509.Files.from_conf(settings(site, x509_server_key=str(key)))


def test_the_certificates_that_the_manual_makes_are_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = (Path(__file__).parents[4] / "docs" / "install.rst").read_text()
    (lines,) = re.findall(r"^    certtool --generate-privkey (?:.*\n)+?    done\n", page, re.MULTILINE)
    subprocess.run(["sh", "-ec", lines], cwd=tmp_path, check=True, capture_output=True)
    names = ("cacert.pem", "cacrl.pem", "servercert.pem", "serverkey.pem", "clientcert.pem", "clientkey.pem")
    files = x509.Files(*(tmp_path / name for name in names))
    files.complain("kvm1", "192.0.2.11")
    assert caplog.text == ""
    files.complain("kvm2", "192.0.2.12")
    assert caplog.text.count("192.0.2.12") >= 1


def test_certificates_and_no_encryption_are_a_contradiction(site: Site) -> None:
    with pytest.raises(errors.BadConfiguration, match="encrypt is false"):
        x509.Files.from_conf(settings(site, encrypt=False))


def test_hosts_that_are_not_set_alike_are_refused(two: Hosts, tmp_path: Path) -> None:
    with pytest.raises(errors.ReceiverUnavailable, match=r"kvm1 shows no certificate; set \[images\] tls"):
        two.open(certificate="")
    without = NbdReceiver(tmp_path / "state-2", tmp_path / "run-2", LOCALHOST, free_ports(2))
    with pytest.raises(errors.ReceiverUnavailable, match=r"kvm1 asks for a certificate; set \[images\] tls"):
        without.open(two.pair.migration, [two.disk], LOCALHOST, two.shown)
    address = two.open()
    for sender, wrong in (
        (two.pair.sender, replace(address, key="ab" * 32)),
        (NbdSender(tmp_path / "run-3"), address),
    ):
        with pytest.raises(errors.ImageTransferError, match=r"set \[images\] tls alike on both hosts"):
            sender.send(wrong, lambda _: None, lambda: None, 10)
