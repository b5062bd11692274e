"""Settings of the copies."""

from __future__ import annotations

from oslo_config import cfg

images_opts: list[cfg.Opt] = [
    cfg.IntOpt(
        "port_first", default=20900, min=1, max=65535, help="First TCP port at which images are taken."
    ),
    cfg.IntOpt(
        "port_last", default=20963, min=1, max=65535, help="Last one; each arriving migration takes a port."
    ),
    cfg.IntOpt(
        "connections", default=4, min=1, max=16, help="Connections over which a migration sends its images."
    ),
    cfg.IntOpt(
        "timeout", default=300, min=1, help="Seconds that a copy waits for its receiver to come back."
    ),
    cfg.IntOpt(
        "keep_copies",
        default=86400,
        min=0,
        help="Seconds for which what has arrived of a server stays on this host after its migration was undone: the"
        " next one sends only what differs. It is given up sooner where its room is wanted. 0: nothing stays.",
    ),
    cfg.BoolOpt(
        "encrypt",
        default=True,
        help="Whether images travel encrypted, and both ends prove who they are. Where both hosts say false they do"
        " not: whoever is on the wire can read and change them. The log says so of each copy.",
    ),
    cfg.StrOpt(
        "tls",
        default="psk",
        choices=[
            ("psk", "a key for each copy, made by itself: nothing to set up"),
            ("x509", "besides, both hosts show certificates of one CA, and their names are checked"),
        ],
        help="How both ends prove who they are; alike on all hosts.",
    ),
    cfg.StrOpt("x509_ca_file", default="/etc/pki/CA/cacert.pem", help="The CA's certificate, in PEM."),
    cfg.StrOpt(
        "x509_crl_file",
        default="/etc/pki/CA/cacrl.pem",
        help="What the CA has revoked, in PEM; used where it is there.",
    ),
    cfg.StrOpt(
        "x509_server_cert",
        default="/etc/pki/libvirt/servercert.pem",
        help="Certificate of this host as a destination; its ip_address is where it takes images.",
    ),
    cfg.StrOpt(
        "x509_server_key",
        default="/etc/pki/libvirt/private/serverkey.pem",
        help="Its key, which only its owner and group may read.",
    ),
    cfg.StrOpt(
        "x509_client_cert",
        default="/etc/pki/libvirt/clientcert.pem",
        help="Certificate of this host as a source; its dns_name is *host*, or its ip_address the host's.",
    ),
    cfg.StrOpt(
        "x509_client_key",
        default="/etc/pki/libvirt/private/clientkey.pem",
        help="Its key, which only its owner and group may read.",
    ),
    cfg.StrOpt(
        "compress",
        default="auto",
        choices=[
            ("auto", "with zstd, where a copy is faster for it: tried while it runs, and again now and then"),
            ("never", "as they are; this host neither packs nor unpacks"),
        ],
        help="How blocks of images travel. Unpacking needs nbdkit-plugin-python and python3-zstandard (Debian).",
    ),
    cfg.BoolOpt(
        "confine",
        default=True,
        help="Whether what takes the images runs as a user of its own, without a network, with its files and no others."
        " A worker that is root takes none where this is true and the machine allows no namespaces.",
    ),
]
