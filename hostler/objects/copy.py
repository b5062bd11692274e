"""What is said of a copy between the two who make it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hostler.objects.record import Record


@dataclass(frozen=True)
class Export(Record):
    """One file or block device that a receiver takes. The source reads *source*, the destination holds *part*."""

    name: str  #: the NBD export's name: a number as text
    source: str  #: absolute path on the source after it was set aside
    part: str  #: absolute path in a part directory of the destination
    size_bytes: int  #: what the part file is made to hold at most; cut to the true size by the verification
    exact: bool  #: the source must have exactly this size (raw disks); else at most
    block: bool = False  #: both are block devices; the destination's may be larger, and is never made or cut


@dataclass(frozen=True)
class ReceiverAddress(Record):
    """Where and with which key the source sends."""

    host: str  #: address the receiver listens on
    port: int
    username: str  #: TLS-PSK identity: the migration's uuid
    #: TLS-PSK, hexadecimal; or the X.509 certificate of the copy, in PEM; never logged; empty: no encryption
    key: str = field(repr=False)
    exports: list[Export] = field(default_factory=list)

    @property
    def certified(self) -> bool:
        """Whether both ends show certificates."""
        return self.key.startswith("-----BEGIN CERTIFICATE")


@dataclass(frozen=True)
class CopyProgress(Record):
    """How far one export is. ``total_bytes`` counts allocated bytes, not the virtual size."""

    name: str
    path: str
    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: float
    sent_bytes: int = 0  #: what this attempt has put on the wire, without what the destination had
    saved_bytes: int = 0  #: how much more that would have been, had nothing been packed


@dataclass(frozen=True)
class ImageDigest(Record):
    """What left: the true size of a file and the digest over its block manifest."""

    path: str
    size_bytes: int
    allocated_bytes: int
    digest: str  #: BLAKE3, hexadecimal, of the file's whole contents' block digests: see the manifest
