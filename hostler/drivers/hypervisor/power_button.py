"""Pressing the power button of a guest whose QEMU may not answer."""

from __future__ import annotations

import logging
import threading
from typing import Any

import libvirt

LOG = logging.getLogger(__name__)

#: Seconds after which a press that libvirt does not answer is given up.
PATIENCE_S = 5.0


class Presses:
    """Presses of power buttons, each in a thread that ends with the guest at the latest."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._threads: dict[str, threading.Thread] = {}

    def under_way(self, uuid: str) -> bool:
        """Tell whether an earlier press is not answered yet."""
        return uuid in self._threads and self._threads[uuid].is_alive()

    def press(self, uuid: str, domain: Any) -> None:
        """Press; return when libvirt has answered, or is given up."""
        failures: list[libvirt.libvirtError] = []

        def call() -> None:
            try:
                domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            except libvirt.libvirtError as error:
                failures.append(error)

        thread = self._threads[uuid] = threading.Thread(target=call, name="power-button", daemon=True)
        thread.start()
        thread.join(self._patience_s)
        if thread.is_alive():
            LOG.warning("the QEMU of server %s does not answer", uuid)
            return
        del self._threads[uuid]
        if failures:
            raise failures[0]
