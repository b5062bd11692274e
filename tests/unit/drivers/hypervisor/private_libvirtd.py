"""A libvirtd of our own, in namespaces of its own: real guests, and nothing of the machine is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

LIBVIRTD_CONF = """\
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
unix_sock_dir = "{home}/sock"
log_outputs = "2:file:{home}/libvirtd.log"
"""

QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""

INIT = """\
set -eu
H=$1
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/libvirt /run/lock /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
mount --bind $H/lib /var/lib/libvirt
mount --bind $H/log /var/log/libvirt
mount --bind $H/cache /var/cache/libvirt
cp -a /etc $H/etc-private
mkdir -p $H/etc-private/libvirt
rm -rf $H/etc-private/libvirt/*
cp $H/qemu.conf $H/libvirtd.conf $H/etc-private/libvirt/
grep -q ^libvirt-qemu: $H/etc-private/passwd \\
  || echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' >> $H/etc-private/passwd
grep -q ^libvirt-qemu: $H/etc-private/group || echo 'libvirt-qemu:x:64055:' >> $H/etc-private/group
mount --bind $H/etc-private /etc
set +e
while :; do
  while [ -e $H/hold ]; do sleep 0.1; done
  /usr/sbin/libvirtd -f /etc/libvirt/libvirtd.conf &
  echo $! > $H/libvirtd.pid
  wait $!
  sleep 0.2
done
"""


class PrivateLibvirtd:
    """One libvirtd with private /run, /etc, /var/lib/libvirt, network and processes; needs root."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="hv"))
        for name in ("sock", "lib", "log", "cache", "images"):
            (self.home / name).mkdir()
        (self.home / "qemu.conf").write_text(QEMU_CONF)
        (self.home / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(home=self.home))
        self._log = (self.home / "init.log").open("wb")
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
             "--propagation", "private", "bash", "-c", INIT, "init", str(self.home)],
            stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.wait_for_socket()

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.home}/sock/libvirt-sock"

    def wait_for_socket(self) -> None:
        deadline = time.monotonic() + 30
        while not (self.home / "sock" / "libvirt-sock").exists():
            assert self._process.poll() is None, (self.home / "init.log").read_text()
            assert time.monotonic() < deadline, (self.home / "init.log").read_text()
            time.sleep(0.05)

    def hold(self) -> None:
        """Kill libvirtd and keep it away; its guests live on."""
        (self.home / "hold").touch()
        self.signal_libvirtd(signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            (self.home / "sock" / "libvirt-sock").unlink()

    def release(self) -> None:
        """Let libvirtd come back."""
        (self.home / "hold").unlink(missing_ok=True)
        self.wait_for_socket()

    def signal_libvirtd(self, number: int) -> None:
        """Send a signal to libvirtd alone."""
        os.kill(self._libvirtd_pid(), number)

    def _libvirtd_pid(self) -> int:
        init = _children(self._process.pid)[0]
        for pid in _children(init):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "libvirtd":
                return pid
        raise AssertionError("libvirtd does not run")

    def close(self) -> None:
        """End everything that runs in there, as a power cut does."""
        self._process.kill()
        self._process.wait()
        self._log.close()
        for _ in range(50):
            shutil.rmtree(self.home, ignore_errors=True)
            if not self.home.exists():
                return
            time.sleep(0.1)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
