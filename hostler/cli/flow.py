"""``hostler flow``: what happens, before it happens."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from hostler.cli import drawing
from hostler.cli.base import Command, Lister
from hostler.flows import graph


class ListFlows(Lister):
    """List the flows and the hosts their steps are for."""

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Return columns and rows."""
        from hostler import flows

        shapes = [(name, flows.shape_of(name)) for name in sorted(flows.FLOWS)]
        return ("Name", "Steps", "Point Of No Return"), [
            (name, len(shape), next((step.name for step in shape if step.point_of_no_return), None))
            for name, shape in shapes
        ]


class GraphFlow(Command):
    """Draw a flow: its steps in order, the host of each, and what undoes it."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("flow", metavar="FLOW", help="Name of the flow; hostler flow list prints them.")
        return drawing.add(parser)

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Print the drawing."""
        from hostler import flows

        shape = flows.shape_of(parsed_args.flow)
        drawing.show(
            self, lambda fmt, width: graph.draw(shape, fmt, title=parsed_args.flow, width=width), parsed_args
        )
