"""``hostler worker``: the process that carries migrations out."""

from __future__ import annotations

import argparse

from hostler.cli.base import Command


class RunWorker(Command):
    """Work for this host until SIGTERM. systemd starts it: see hostler-worker.service."""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Run; return the exit code."""
        from oslo_log import log

        from hostler import conf

        settings = self.app.conf()
        conf.check(settings, worker=True)
        # what a command keeps to itself is what a worker is asked for: who did what when
        log.setup(settings, "hostler", fix_eventlet=False)
        from hostler.jobboard import worker  # late: it brings kazoo, TaskFlow and libvirt along

        return worker.run(settings)
