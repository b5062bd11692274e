"""Two (or three) libvirt hosts on one machine, with real guests: for the demo, the tests and the benchmarks.

=================  ==========================================================
``lab.yard``       `Lab`: the hosts, their switch, ZooKeeper, the shared database
``lab.host``       `Host`: power, commands, files, the worker
``lab.pid1``       what runs first in a host, in the host
``lab.switch``     the network between the hosts: cut and slow links
``lab.guest``      `Guest`: disks, domain XML, console
``lab.zookeeper``  a private ZooKeeper; usable alone
``lab.postgres``   a private PostgreSQL; usable alone
``lab.services``   the services of a cloud, from Neutron to Ceph; usable alone
``lab.process``    processes that are recorded, so that only ours are ever ended
=================  ==========================================================
"""

from lab.guest import Guest
from lab.host import Host
from lab.yard import Lab

__all__ = ["Guest", "Host", "Lab"]
