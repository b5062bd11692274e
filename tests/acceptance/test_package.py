"""The Debian package, built and installed as on a host: in a root of its own, with the machine's packages below it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.places import CHECKOUT

#: Everything is written into a tmpfs of a mount namespace, and is gone with it.
INSIDE = """
set -e
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work none /mnt/root
mount -t proc proc /mnt/root/proc
cp "$1" /mnt/root/root/hostler.deb
exec chroot /mnt/root sh -ec "$2"
"""

#: A systemctl that says what it was asked for: no systemd runs in a chroot.
SYSTEMCTL = r"""
mkdir -p /run/systemd/system
printf '#!/bin/sh\necho "systemctl $*"\n' >/usr/local/bin/systemctl
chmod 755 /usr/local/bin/systemctl
"""


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as tools/package builds it, beside the wheel and the source archive."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run([CHECKOUT / "tools" / "package", directory], check=True, stdout=subprocess.DEVNULL)
    (package,) = directory.glob("hostler_*.deb")
    (_,) = directory.glob("hostler-*.whl")
    (_,) = directory.glob("hostler-*.tar.gz")
    return package


def on_a_host(deb: Path, script: str) -> str:
    """Run *script* where the package is at /root/hostler.deb; give what it printed."""
    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "bash",
        "-c",
        INSIDE,
        "install",
        str(deb),
        script,
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_package_makes_its_tables_and_leaves_what_is_not_its_own(deb: Path) -> None:
    said = on_a_host(
        deb,
        """
        dpkg -i /root/hostler.deb
        cp /usr/share/doc/hostler/examples/hostler.conf /etc/hostler/hostler.conf
        printf '[database]\\nconnection = sqlite:////root/records.db\\n' >>/etc/hostler/hostler.conf
        hostler db upgrade
        systemd-tmpfiles --create hostler.conf
        stat -c 'mode %a %G' /etc/hostler /etc/hostler/hostler.conf
        systemd-analyze verify hostler-worker.service
        mkdir -p /var/lib/hostler && touch /var/lib/hostler/needed-for-an-undo
        ls /usr/share/man/man1/hostler.1.gz /usr/share/man/man5/hostler.conf.5.gz
        dpkg -r hostler
        ls -d /etc/hostler/hostler.conf
        test ! -e /usr/lib/hostler && echo program gone
        dpkg -P hostler
        test ! -e /etc/hostler && echo settings gone
        ls /var/lib/hostler
        """,
    )
    for line in (
        "mode 750 hostler",
        "mode 640 hostler",
        "program gone",
        "settings gone",
        "needed-for-an-undo",
    ):
        assert line in said
    assert said.index("/etc/hostler/hostler.conf\n") < said.index("settings gone")


def test_an_upgrade_ends_the_worker_first_and_starts_it_again(deb: Path) -> None:
    said = on_a_host(deb, f"{SYSTEMCTL}\ndpkg -i /root/hostler.deb\necho UPGRADE\ndpkg -i /root/hostler.deb")
    first, upgrade = said.split("UPGRADE")
    assert "systemctl start" not in first
    stop = upgrade.index("systemctl stop hostler-worker.service")
    assert stop < upgrade.index("Unpacking hostler") < upgrade.index("systemctl start hostler-worker.service")
