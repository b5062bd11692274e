"""What a source proves itself with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostler import errors
from hostler.drivers.images import tls, x509
from hostler.objects import ReceiverAddress

LOG = logging.getLogger(__name__)


class Proof:
    """The keys of this host's copies, in files below *run_dir* for as long as each lasts."""

    def __init__(self, run_dir: Path, certificates: x509.Files | None, *, encrypt: bool) -> None:
        self._run_dir = run_dir
        self._certificates = certificates
        self._encrypt = encrypt

    def certificate(self) -> str:
        """Return what this host shows, empty where nobody asks for it or it cannot be read."""
        if self._certificates is None:
            return ""
        try:
            return self._certificates.client_cert.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            LOG.error("this host can send no images: %s", error)
            return ""

    @contextmanager
    def files(self, address: ReceiverAddress) -> Iterator[Path | None]:
        """Hold the copy's key in a file, or its certificate in a directory.

        Without either the copy is refused, unless the settings allow it.
        """
        if address.certified != (self._certificates is not None):
            verb = "asks for a certificate" if address.certified else "shows no certificate"
            raise _refused(address, f"{address.host} {verb}; set [images] tls alike on both hosts")
        if self._certificates is not None:
            with x509.for_sending(self._certificates, self._run_dir, address) as directory:
                yield directory
        elif address.key:
            with tls.key_file(self._run_dir, address.username, address.key) as path:
                yield path
        elif self._encrypt:
            raise _refused(
                address, f"{address.host} takes it unencrypted only; set [images] encrypt alike on both hosts"
            )
        else:
            LOG.warning(
                "the images of migration %s leave unencrypted: [images] encrypt is false", address.username
            )
            yield None


def _refused(address: ReceiverAddress, reason: str) -> errors.ImageTransferError:
    return errors.ImageTransferError(path=address.exports[0].source, reason=reason)
