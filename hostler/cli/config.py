"""``hostler config``: the settings."""

from __future__ import annotations

import argparse

from oslo_config import cfg, generator

from hostler.cli.base import Command

NAMESPACES = ("hostler", "oslo.log")


class SampleConfig(Command):
    """Print a configuration file with every setting, its meaning and its default."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print it."""
        conf = cfg.ConfigOpts()
        generator.register_cli_opts(conf)
        conf([f"--namespace={name}" for name in NAMESPACES], default_config_files=[])
        generator.generate(conf, output_file=self.app.stdout)
