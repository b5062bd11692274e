"""The archives and the Debian package, built by one command and installed.

The package is installed as on a host: in a root of its own, with the machine's packages below it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

import hostler
from lab import Guest, Host, Lab
from lab.host import OWN_FOLDERS
from lab.places import BASE, CHECKOUT
from lab.process import wait_until
from lab.sockets import free_port

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


#: Asks for the page until it is there.
LOOK = """
import contextlib, sys, time, urllib.request
for _ in range(600):
    time.sleep(0.1)
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/login")
        sys.exit(print("the page is served"))
sys.exit("no page")
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tools/package builds."""
    directory = tmp_path_factory.mktemp("dist")
    quick = os.environ | {"DEB_COMPRESSION": "none"}
    words = [CHECKOUT / "tools" / "package", directory]
    subprocess.run(words, env=quick, check=True, stdout=subprocess.DEVNULL)
    return directory


@pytest.fixture(scope="module")
def deb(dist: Path) -> Path:
    (package,) = dist.glob("hostler_*.deb")
    return package


@pytest.fixture
def environment(dist: Path, tmp_path: Path) -> Path:
    """An environment that was empty before the wheel was installed; what hostler needs is seen, not installed again."""
    (wheel,) = dist.glob("hostler-*.whl")
    place = tmp_path / "environment"
    venv.create(place)
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python"]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    return place


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


def test_the_wheel_brings_a_program_that_makes_its_tables(environment: Path, tmp_path: Path) -> None:
    def typed(program: str, *words: str) -> str:
        done = subprocess.run(
            [environment / "bin" / program, *words], capture_output=True, text=True, cwd=tmp_path, env={}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = typed("python", "-c", "import hostler; print(hostler.__file__)")
    assert Path(where).is_relative_to(environment)
    assert typed("hostler", "--version") == f"hostler {hostler.__version__}\n"
    settings = tmp_path / "hostler.conf"
    settings.write_text(
        f"{typed('hostler', 'config', 'sample')}\n[database]\nconnection = sqlite:///{tmp_path}/records.db\n"
    )
    typed("hostler", "--config-file", str(settings), "db", "upgrade")
    with contextlib.closing(sqlite3.connect(tmp_path / "records.db")) as records:
        tables = {name for (name,) in records.execute("SELECT name FROM sqlite_master")}
    assert {"alembic_version", "migrations", "instances"} <= tables
    typed("python", "-c", "from hostler.drivers.notifications import schema; schema.read('notification')")
    typed("python", "-c", "from hostler.views import schema; schema.read()")


def test_an_installed_package_makes_its_tables_and_leaves_what_is_not_its_own(deb: Path) -> None:
    port = free_port()
    said = on_a_host(
        deb,
        f"""
        dpkg -i /root/hostler.deb
        find /usr/lib/hostler | sort >/root/installed
        grep -q 'site-packages/hostler/jobboard/__pycache__/worker.*[.]pyc' /root/installed && echo compiled
        cp /usr/share/doc/hostler/examples/hostler.conf /etc/hostler/hostler.conf
        mkdir /srv/records
        printf '[database]\\nconnection = sqlite:////srv/records/it.db\\n' >>/etc/hostler/hostler.conf
        printf '[zookeeper]\\nhosts = 127.0.0.1:{port}\\n' >>/etc/hostler/hostler.conf
        hostler db upgrade
        systemd-tmpfiles --create hostler.conf
        stat -c 'mode %a %G' /etc/hostler /etc/hostler/hostler.conf
        systemd-analyze verify hostler-worker.service hostler-web.service
        systemd-analyze security --offline=true --threshold=20 --no-pager hostler-web.service >/root/exposure
        ls /etc/systemd/system/multi-user.target.wants | grep hostler || echo nothing starts by itself
        printf '[web]\\nport = {port}\\n' >>/etc/hostler/hostler.conf
        hostler token create alice
        stat -c 'tokens %a %U:%G' /etc/hostler/web-tokens
        as_page='setpriv --reuid hostler-web --regid hostler-web --groups hostler'
        chown -R hostler-web /srv/records
        $as_page hostler web >/root/page 2>&1 &
        /usr/lib/hostler/bin/python3 -c '{LOOK}' {port}
        kill $!
        wait $! || true
        find /usr/lib/hostler | sort | cmp /root/installed - && echo nothing is left to compile
        $as_page cat /etc/hostler/web-tokens | cut -d' ' -f1,2
        $as_page touch /etc/hostler/mine /var/lib/hostler/mine || echo it writes nowhere
        mkdir -p /var/lib/hostler && touch /var/lib/hostler/needed-for-an-undo
        cd /usr/share/man && ls man1/hostler.1.gz man5/hostler.conf.5.gz man8/hostler-worker.8.gz
        bash -ec '. /usr/share/bash-completion/completions/hostler; complete -p hostler'
        ls /usr/share/zsh/vendor-completions/_hostler /usr/share/fish/vendor_completions.d/hostler.fish
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
        "compiled",
        "nothing is left to compile",
        "nothing starts by itself",
        "tokens 640 root:hostler-web",
        "reader alice",
        "the page is served",
        "it writes nowhere",
        "program gone",
        "settings gone",
        "needed-for-an-undo",
    ):
        assert line in said
    assert said.index("/etc/hostler/hostler.conf\n") < said.index("settings gone")


def test_a_worker_that_ran_runs_again_after_an_upgrade_and_after_a_removal_that_failed(deb: Path) -> None:
    refuse = """sed -i 's/^echo.*/&; [ "$1" != stop ]/' /usr/local/bin/systemctl"""
    said = on_a_host(
        deb,
        f"""{SYSTEMCTL}
        dpkg -i /root/hostler.deb
        echo UPGRADE
        dpkg -i /root/hostler.deb
        echo REMOVAL
        {refuse}
        dpkg -r hostler || echo it stays
        """,
    )
    first, rest = said.split("UPGRADE")
    upgrade, removal = rest.split("REMOVAL")
    assert "systemctl start" not in first
    stop = upgrade.index("systemctl stop hostler-worker.service")
    assert stop < upgrade.index("Unpacking hostler") < upgrade.index("systemctl start hostler-worker.service")
    stop = upgrade.index("systemctl stop hostler-web.service")
    assert stop < upgrade.index("Unpacking hostler") < upgrade.index("systemctl start hostler-web.service")
    assert "systemctl start hostler-web" not in first + removal  # it was not stopped
    stop = removal.index("systemctl stop hostler-worker.service")
    assert stop < removal.index("systemctl start hostler-worker.service") < removal.index("it stays")


# -- a new user's walk: hosts that have the package and nothing else of hostler -----------------------------

ROOT = "/mnt/root"
#: A root of its own within a host: what the machine has, what is the host's own, and room for what is installed.
COVER = f"""
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work {ROOT}
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work none {ROOT}
for place in "$@"; do mount --rbind "$place" "{ROOT}$place"; done
rm -rf /etc/hostler
"""
PLACES = ("/proc", "/sys", "/dev", "/run", str(BASE), *OWN_FOLDERS.values())
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STARTING_S = 200
UNIT = "/lib/systemd/system/hostler-worker.service"


class Installed:
    """A host on which the package was installed, and what is typed there."""

    def __init__(self, host: Host, deb: Path) -> None:
        self.host = host
        host.stop_worker()
        host.run(["sh", "-ec", COVER, "cover", *PLACES])
        self.type("dpkg", "-i", str(deb))

    def words(self, *words: str) -> list[str]:
        return ["chroot", ROOT, "env", "-C", "/root", f"PATH={PATH}", *words]

    def type(self, *words: str, code: int = 0) -> str:
        done = self.host.run(self.words(*words), check=False)
        assert done.returncode == code, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def set(self, text: str) -> None:
        self.host.path("/etc/hostler/hostler.conf").write_text(text)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Run its worker as its unit says, since no systemd runs here."""
        unit = dict(line.split("=", 1) for line in self.type("cat", UNIT).splitlines() if "=" in line)
        as_unit = f"umask {unit['UMask']}; exec {unit['ExecStart']}"
        worker = self.host.popen(self.words("sh", "-c", as_unit))
        try:
            yield
        finally:
            os.kill(self.host.pid_of(worker), signal.SIGTERM)
            said, _ = worker.communicate(timeout=60)
            print(f"the worker of {self.host.name}:\n{said}")

    def remove(self) -> None:
        self.host.run(["umount", "--lazy", "--recursive", "/mnt"])
        self.host.configure()


@pytest.fixture
def installed(lab: Lab, deb: Path) -> Iterator[list[Installed]]:
    """Both hosts with the package, and with the settings that the manual tells to write."""
    shown = re.search(r"\n((?:    \[.*\n(?:    .+\n)+\n)+)", (CHECKOUT / "docs/install.rst").read_text())
    assert shown is not None
    made: list[Installed] = []
    try:
        for host in lab.hosts:
            made.append(one := Installed(host, deb))
            text = textwrap.dedent(shown[1]).replace("192.0.2.11", host.address)
            text = re.sub("(?m)^connection = .*", f"connection = {lab.database}", text)
            text = re.sub("(?m)^hosts = .*", f"hosts = {lab.zookeeper.hosts}", text)
            one.set(f"{text}[images]\nkeep_copies = 0\n")  # nothing stays for the tests that follow
        yield made
    finally:
        for one in made:
            one.remove()


@pytest.mark.lab
@pytest.mark.timeout(900)  # a program that was never compiled, on two hosts, beside all the other tests
def test_a_server_is_moved_and_brought_back_between_hosts_that_have_the_package(
    lab: Lab, installed: list[Installed]
) -> None:
    (kvm1, kvm2), (here, there) = lab.hosts, installed
    here.type("hostler", "db", "upgrade")
    with here.working(), there.working():
        listed = ("hostler", "host", "list", "-f", "value", "-c", "Name", "-c", "Worker")
        both = "kvm1 up\nkvm2 up\n"  # compiled as they are imported for the first time
        wait_until(lambda: here.type(*listed) == both, "both workers", STARTING_S, pause_s=1)
        guest = Guest("web1", layout="flat").create(kvm1).start(kvm1)
        known = ("hostler", "server", "list", "-f", "value", "-c", "Name", "-c", "Power")
        wait_until(lambda: "web1 running" in here.type(*known), "web1", STARTING_S, pause_s=1)

        move = ("hostler", "server", "migrate", "web1", "--to", "kvm2")
        assert "nothing stands in the way of moving web1 to kvm2" in here.type(*move, "--dry-run")
        assert "done: web1 is on kvm2, running" in here.type(*move, "--wait")
        guest.wait_for_boot(kvm2)
        back = ("hostler", "server", "revert", "web1", "--reason", "too slow", "--drop-writes", "--wait")
        assert "web1 is on kvm1 again, running" in there.type(*back)
        guest.wait_for_boot(kvm1, 2)
        here.type("hostler", "doctor")
