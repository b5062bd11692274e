"""Cinder's API, scheduler and volume service in one process: they talk through memory, and need no broker.

Arguments: as each of Cinder's own programs takes them.
"""

import sys

import eventlet

eventlet.monkey_patch()

import os_brick  # noqa: E402 - all of these are to find what was patched
from cinder import coordination, objects, rpc, service, version  # noqa: E402
from cinder.common import config  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_log import log  # noqa: E402
from oslo_service.service import ServiceLauncher  # noqa: E402

CONF = cfg.CONF


def main() -> None:
    """Serve until told to end."""
    objects.register_all()
    CONF(sys.argv[1:], project="cinder", version=version.version_string())
    config.set_middleware_defaults()
    log.setup(CONF, "cinder")
    os_brick.setup(CONF)
    coordination.COORDINATOR.start()
    rpc.init(CONF)
    launcher = ServiceLauncher(CONF)
    launcher.launch_service(service.Service.create(binary="cinder-scheduler"))
    (backend,) = CONF.enabled_backends
    host = f"{CONF.host}@{backend}"
    volumes = service.Service.create(host=host, service_name=backend, binary="cinder-volume")
    launcher.launch_service(volumes)
    launcher.launch_service(service.WSGIService("osapi_volume"))
    launcher.wait()


if __name__ == "__main__":
    main()
