"""X.509, where a site demands it: certificates as libvirt has them, and one for each copy.

nbdkit takes any certificate of the CA that it is told of. So it is not told of the site's. The destination looks at
the source's certificate itself, its CA, its dates, its name, and certifies the key in it anew for this one copy, by a
CA that is made for it and whose key is thrown away at once. With that certificate, and its own key, the source
connects: any other host's key opens nothing, nor does the certificate of another copy, or of this one after its end.

GnuTLS's ``certtool`` does it, by the rules that hold for the connection.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg

from hostler import errors
from hostler.drivers.images import state
from hostler.objects import Identity, ReceiverAddress

LOG = logging.getLogger(__name__)

#: What a certificate may be used for, RFC 5280 section 4.2.1.12.
SERVER, CLIENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
HINT = "hostler's manual, TLS, says what a certificate must hold; certtool --certificate-info --infile FILE shows it"
#: How long a copy's certificate is valid at most; it is worth nothing once the copy is over.
_DAYS = 3650
_PATIENCE_S = 60
_COPY, _DIRECTORY = "copy.json", "x509"


@dataclass(frozen=True)
class Files:
    """Where a host has its certificates and keys, in PEM."""

    ca_file: Path
    crl_file: Path  #: what the CA has revoked, where it is there
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Files | None:
        """Return this host's, None where it needs none; :class:`~hostler.errors.BadConfiguration` if one is missing."""
        if conf.images.tls != "x509":
            return None
        files = cls(*(Path(conf.images[f"x509_{name}"]) for name in cls.__dataclass_fields__))
        where = ", ".join(conf.default_config_files) or "[images]"
        for problem in files._problems(encrypt=conf.images.encrypt):
            raise errors.BadConfiguration(where=where, problem=f"[images] {problem}", hint=HINT)
        return files

    def _problems(self, *, encrypt: bool) -> Iterator[str]:
        if not encrypt:
            yield "tls is x509, and encrypt is false"
        if shutil.which("certtool") is None:
            yield "tls is x509, and there is no certtool (Debian: gnutls-bin)"
        for name in self.__dataclass_fields__:
            path: Path = getattr(self, name)
            if name == "crl_file" and not path.exists():
                continue
            try:
                path.read_bytes()
            except OSError as error:
                yield f"x509_{name}: {path}: {error.strerror}"
                continue
            if name.endswith("_key") and path.stat().st_mode & stat.S_IROTH:
                yield f"x509_{name}: everybody can read {path}; chmod o= {path}"

    def complain(self, host: str, address: str) -> None:
        """Say in the log what the other hosts will refuse; a worker has more to do than copies, and goes on."""
        for path, names, purpose in (
            (self.server_cert, [address], SERVER),
            (self.client_cert, [host, address], CLIENT),
        ):
            if reason := self.obstacle(path.read_text(encoding="ascii", errors="replace"), names, purpose):
                LOG.error("%s is no proof of %s, and is refused: %s", path, " or ".join(names), reason)

    def obstacle(self, certificate: str, names: Sequence[str], purpose: str) -> str | None:
        """Return why *certificate* does not prove that its owner is one of *names*; None if it does."""
        words = ["--verify", "--verify-profile=low", f"--load-ca-certificate={self.ca_file}"]
        words += [f"--load-crl={self.crl_file}"] if self.crl_file.exists() else []
        reasons: list[str] = []
        for name in names:
            done = _run(*words, f"--verify-purpose={purpose}", f"--verify-hostname={name}", given=certificate)
            if done.returncode == 0:
                return None
            said = (done.stdout.strip() or done.stderr.strip()).rpartition("\n")[2]
            reasons.append(said.rpartition("NOT trusted. ")[2].strip())
        return reasons[0]


class CopyCertificates:
    """The keys of this host's receivers, see :class:`~hostler.drivers.images.tls.Keys`: a certificate for each copy."""

    def __init__(self, files: Files, address: str) -> None:
        self._files = files
        self._address = address

    def make(self, home: Path, migration: str, peer: str, identity: Identity) -> None:
        """Certify the key in what the source shows, unless that was done; who is not the source is refused."""
        known = _made(home)
        if known and known["shown"] == identity.certificate:
            return
        with self._reading():
            self._look(peer, identity)
            made = self._certified(home, migration, identity.certificate)
            state.write_private(home / _COPY, json.dumps(made | {"shown": identity.certificate}))

    def _look(self, peer: str, identity: Identity) -> None:
        """See that both ends are who they should be: at once, not when the guest is off."""
        own = self._files.server_cert.read_text(encoding="ascii")
        if reason := self._files.obstacle(own, [self._address], SERVER):
            raise self._refused(f"{self._files.server_cert} is no proof of {self._address}: {reason}")
        name = identity.name or peer
        if not identity.certificate:
            raise self._refused(f"{name} shows no certificate; set [images] tls on both hosts")
        if reason := self._files.obstacle(identity.certificate, [name, peer], CLIENT):
            raise self._refused(f"the certificate of {name} is no proof of {name}: {reason}")

    def read(self, home: Path, _migration: str) -> str | None:
        """Return the certificate with which the source connects."""
        made = _made(home)
        return made["certificate"] if made else None

    def remove(self, home: Path) -> None:
        """Forget it: what was certified is worth nothing."""
        state.remove(home / _COPY)
        shutil.rmtree(home / _DIRECTORY, ignore_errors=True)

    def lay_out(self, home: Path, place: Path, migration: str) -> dict[Path, Path]:
        """Write what nbdkit needs below *place*; return by which names below *home* it gets it."""
        made = _made(home)
        if made is None:
            raise self._refused(f"the certificate of migration {migration} is gone")
        with self._reading():
            texts = {
                "ca-cert.pem": made["ca"],
                "server-cert.pem": self._files.server_cert.read_text(encoding="ascii"),
                "server-key.pem": self._files.server_key.read_text(encoding="ascii"),
            }
        directory = state.private_directory(place / _DIRECTORY)
        for name, text in texts.items():
            state.write_private(directory / name, text)
        return {home / _DIRECTORY / name: directory / name for name in texts}

    def arguments(self, home: Path) -> list[str]:
        """Return what nbdkit is told, which sees *home* there."""
        return ["--tls=require", "--tls-verify-peer", f"--tls-certificates={home / _DIRECTORY}"]

    def _certified(self, home: Path, migration: str, certificate: str) -> dict[str, str]:
        """Return a *certificate* for the key in that one, and the *ca* that has signed it."""
        with tempfile.TemporaryDirectory(dir=home) as name:
            room, lasts = Path(name), f"expiration_days = {_DAYS}\n"
            (room / "ca.info").write_text(f"cn = hostler {migration}\nca\ncert_signing_key\n{lasts}")
            (room / "copy.info").write_text(f"cn = {migration}\ntls_www_client\nsigning_key\n{lasts}")
            (room / "public").write_text(self._done("--pubkey-info", given=certificate))
            (room / "ca.key").write_text(self._done("--generate-privkey", "--key-type=ecdsa"))
            words = [f"--load-privkey={room / 'ca.key'}", f"--template={room / 'ca.info'}"]
            (room / "ca.pem").write_text(self._done("--generate-self-signed", *words))
            words = [f"--load-pubkey={room / 'public'}", f"--template={room / 'copy.info'}"]
            words += [f"--load-ca-certificate={room / 'ca.pem'}", f"--load-ca-privkey={room / 'ca.key'}"]
            signed = self._done("--generate-certificate", *words)
            return {"certificate": signed, "ca": (room / "ca.pem").read_text()}

    def _done(self, *words: str, given: str = "") -> str:
        done = _run(*words, given=given)
        if done.returncode:
            raise self._refused(f"certtool {words[0]}: {done.stderr.strip().rpartition(chr(10))[2]}")
        return done.stdout[max(done.stdout.find("-----BEGIN"), 0) :]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired) as error:
            raise self._refused(str(error)) from error

    def _refused(self, reason: str) -> errors.ReceiverUnavailable:
        return errors.ReceiverUnavailable(host=self._address, reason=reason, hint=HINT)


@contextmanager
def for_sending(files: Files, run_dir: Path, address: ReceiverAddress) -> Iterator[Path]:
    """Hold what libnbd needs in a directory for as long as the block lasts: links, and the copy's certificate."""
    directory = state.private_directory(run_dir) / f"{address.username}.send.x509"
    shutil.rmtree(directory, ignore_errors=True)
    state.private_directory(directory)
    try:
        state.write_private(directory / "client-cert.pem", address.key)
        (directory / "client-key.pem").symlink_to(files.client_key.absolute())
        (directory / "ca-cert.pem").symlink_to(files.ca_file.absolute())
        if files.crl_file.exists():
            (directory / "ca-crl.pem").symlink_to(files.crl_file.absolute())
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _made(home: Path) -> dict[str, str] | None:
    """Return what was made for a copy: its *certificate*, its *ca*, and what the source had *shown*."""
    try:
        made: dict[str, str] = json.loads((home / _COPY).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None
    return made


def _run(*words: str, given: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    return subprocess.run(
        ["certtool", *words],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
        env=environment,
    )
