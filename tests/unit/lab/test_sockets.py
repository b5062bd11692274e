"""Ports: free ones, and whose they are."""

import os
import socket
import subprocess

from lab.sockets import free_port, listens


def test_a_process_listens_on_its_own_port_only() -> None:
    port = free_port()
    assert port < 32768
    with socket.create_server(("127.0.0.1", port)):
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
    assert not listens(os.getpid(), port)


def test_a_process_that_has_ended_listens_nowhere() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    assert not listens(ended.pid, 80)
