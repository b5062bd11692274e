"""``hostler web``: the page for a browser, and the REST API; ``hostler token create``: who may come."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostler.cli.base import Command
from hostler.conf import is_loopback
from hostler.errors import BadConfiguration

if TYPE_CHECKING:
    from oslo_config import cfg

_DAYS = 90
#: Seconds that answers under way have when the server ends; streams of events end by themselves, sooner.
_PATIENCE_S = 5


class ServeWeb(Command):
    """Serve migrations and hosts to browsers and programs until SIGTERM. It reads, unless told --operate.

    Needs the extra hostler[web], and a token: hostler token create.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--operate",
            action="store_true",
            help="Let whoever has an operator's token cancel, retry, revert and confirm.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Serve."""
        conf = self.app.conf()
        tls = _tls(conf)
        try:
            import uvicorn

            from hostler.web.app import application
        except ModuleNotFoundError as error:
            problem = f"{error.name} is not installed"
            raise BadConfiguration(
                where="hostler web", problem=problem, hint="pip install 'hostler[web]'"
            ) from error
        from hostler.web.tokens import Tokens

        tokens = Tokens(Path(conf.web.tokens_file))
        with self.app.client() as client:
            client.database  # noqa: B018 - one that is away, or of another version, is told before anybody comes
            app = application(
                client,
                tokens,
                operate=parsed_args.operate,
                secure=bool(tls),
                ending=lambda: server.should_exit,
            )
            settings = uvicorn.Config(
                app,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_PATIENCE_S,
                **tls,
            )
            server = uvicorn.Server(settings)
            scheme = "https" if tls else "http"
            with _listening(conf.web.bind, conf.web.port) as door:
                self.print(f"{scheme}://{conf.web.bind}:{conf.web.port}/")
                server.run([door])


class IssueToken(Command):
    """Make a token for hostler web and print it: it is shown this once. Its line in the file ends it."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Return the parser."""
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="Whose it is; the history names it.")
        parser.add_argument(
            "--role", choices=("reader", "operator", "service"), default="reader", help="Otherwise reader."
        )
        parser.add_argument(
            "--days", type=int, default=_DAYS, help=f"How long it is good; 0 for ever. Otherwise {_DAYS}."
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Make it."""
        from hostler.web import tokens

        file = Path(self.app.conf().web.tokens_file)
        self.print(tokens.issue(file, parsed_args.name, parsed_args.role, parsed_args.days or None))


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        problem = f"{address}, port {port}: {error.strerror or error}"
        hint = f"ss -tlnp sport = {port}; set [web] bind and port to what is free"
        raise BadConfiguration(where="[web]", problem=problem, hint=hint) from error


def _tls(conf: cfg.ConfigOpts) -> dict[str, Any]:
    """Return uvicorn's settings for TLS; beyond loopback there is no page without it."""
    web = conf.web
    if web.tls_cert and web.tls_key:
        return {"ssl_certfile": web.tls_cert, "ssl_keyfile": web.tls_key}
    if not is_loopback(web.bind):
        problem = f"[web] bind is {web.bind}, and tokens would pass the network in the clear"
        hint = "hostler config sample; set [web] tls_cert and tls_key, or bind = 127.0.0.1"
        raise BadConfiguration(where="the settings", problem=problem, hint=hint)
    return {}
