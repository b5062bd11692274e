"""The tracer that the settings ask for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from urllib.parse import urlsplit

from oslo_config import cfg

from hostler.conf import is_loopback
from hostler.errors import BadConfiguration
from hostler.metrics.meter import Meter
from hostler.tracing.tracer import Tracer, Untraced

WHERE = "[tracing] endpoint"


def at_work(conf: cfg.ConfigOpts, meter: Meter) -> AbstractContextManager[Tracer]:
    """Trace by the settings as long as the block runs; nothing is told to anybody where no endpoint is set."""
    endpoint = conf.tracing.endpoint
    if not endpoint:
        return nullcontext(Untraced())
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadConfiguration(where=WHERE, problem=str(error)) from error
    if parts.scheme not in ("http", "https") or not host:
        raise BadConfiguration(where=WHERE, problem="it is no address: https://HOST:4318")
    if parts.scheme == "http" and not is_loopback(host):
        problem = "http:// is for a collector on this machine alone; others are told by https://"
        raise BadConfiguration(where=WHERE, problem=problem)
    try:
        from hostler.tracing import export
    except ModuleNotFoundError as error:
        hint = "pip install 'hostler[tracing]'"
        raise BadConfiguration(where=WHERE, problem=f"{error.name} is not installed", hint=hint) from error
    return export.at_work(conf, meter)
