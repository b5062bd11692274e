"""The driver ``nbd``: nbdkit takes the images on the destination, libnbd sends them from the source."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from oslo_config import cfg

from hostler.drivers.images import ImageReceiver, ImageSender, ImageVerifier, tls, x509
from hostler.drivers.images.receiver import NbdReceiver
from hostler.drivers.images.sender import NbdSender
from hostler.drivers.images.trials import Never, Trials
from hostler.drivers.images.verifier import DiskVerifier


class Images(NamedTuple):
    """The three ends of a copy."""

    receiver: ImageReceiver
    sender: ImageSender
    verifier: ImageVerifier


def from_conf(conf: cfg.ConfigOpts) -> Images:
    """Return the ends of the copies of this host."""
    state, run = Path(conf.state_path, "images"), Path(conf.run_path, "images")
    for directory in (state, run):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    tls.prepare_environment(run)
    address = conf.migration_inbound_addr or conf.my_ip
    ports = (conf.images.port_first, conf.images.port_last)
    encrypt, files = conf.images.encrypt, x509.Files.from_conf(conf)
    if files is not None:
        files.complain(conf.host, address)
    packs = conf.images.compress == "auto"
    receiver = NbdReceiver(
        state,
        run,
        address,
        ports,
        encrypt=encrypt,
        confine=conf.images.confine,
        certificates=files,
        unpack=packs,
    )
    choose = Trials if packs else Never
    sender = NbdSender(run, conf.images.connections, encrypt=encrypt, certificates=files, choose=choose)
    return Images(receiver, sender, DiskVerifier(state))
