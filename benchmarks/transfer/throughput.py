"""How fast a disk goes from one receiver's host to the other, beside cp and fsync on the same machine.

Usage: throughput.py DIRECTORY [GIB [CONNECTIONS]]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import uuid
from pathlib import Path

from hostler.drivers.images import tls

tls.prepare_environment(Path(sys.argv[1]) / "run")

from hostler.drivers.images.receiver import NbdReceiver  # noqa: E402
from hostler.drivers.images.sender import NbdSender  # noqa: E402
from hostler.drivers.images.verifier import DiskVerifier  # noqa: E402
from hostler.objects import Export  # noqa: E402


def cpu_s() -> float:
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


def receiver_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    base = Path(sys.argv[1])
    mib = int(sys.argv[2] if len(sys.argv) > 2 else 2) * 1024
    connections = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    source, part = base / "source", base / "part"
    with source.open("wb") as file:
        for _ in range(mib // 4):
            file.write(os.urandom(4 << 20))
        os.fsync(file.fileno())
    receiver = NbdReceiver(base / "state", base / "run", "127.0.0.1", (21800, 21810))
    sender = NbdSender(base / "run", connections)
    migration = str(uuid.uuid4())
    export = Export("0", str(source), str(part), source.stat().st_size, True)
    for _ in range(3):
        copied = base / "copied"
        begin = time.monotonic()
        subprocess.run(["cp", "--sparse=always", source, copied], check=True)
        subprocess.run(["sync", copied], check=True)
        print(f"cp + fsync      {time.monotonic() - begin:6.2f} s")
        copied.unlink()
        begin, cpu = time.monotonic(), cpu_s()
        address = receiver.open(migration, [export], "127.0.0.1")
        (digest,) = sender.send(address, lambda _: None, lambda: None, 60)
        wall = time.monotonic() - begin
        record = receiver._recorded(migration)
        served = receiver_cpu_s(record.process.pid)
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        cpu = cpu_s() - cpu
        print(f"send, encrypted {wall:6.2f} s  {mib / wall:5.0f} MiB/s  CPU {cpu:.1f} + {served:.1f} s")
        print(f"                most memory of this process so far: {rss} MiB")
        receiver.close(migration)
        begin = time.monotonic()
        DiskVerifier(base / "state").verify(migration, export, digest, lambda: None)
        print(f"verify          {time.monotonic() - begin:6.2f} s")
        receiver.forget(migration)
        part.unlink()
    source.unlink()


main()
