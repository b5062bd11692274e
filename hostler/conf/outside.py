"""Settings of who is told of migrations, and who may look on."""

from __future__ import annotations

from oslo_config import cfg

notifications_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help="Where messagingv2 finds RabbitMQ: rabbit://user:password@host:5672/. What else oslo.messaging can be"
        " told of it goes into its own section, oslo_messaging_rabbit.",
    ),
    cfg.ListOpt(
        "topics",
        default=["notifications"],
        help="Topics of messagingv2: each message goes to the queue topic.priority of each of them.",
    ),
    cfg.StrOpt("webhook_url", help="Where webhook POSTs to: https://..., or http:// to this machine alone."),
    cfg.StrOpt(
        "webhook_secret_file",
        help="File with the secret by which webhook signs; nobody but its owner may read it.",
    ),
    cfg.StrOpt(
        "webhook_ca_file", help="Certificates that webhook trusts, in PEM, instead of the usual ones."
    ),
    cfg.FloatOpt(
        "webhook_timeout", default=5.0, min=0.1, max=25.0, help="Seconds that webhook waits for an answer."
    ),
    cfg.FloatOpt(
        "retry_interval_max",
        default=60.0,
        min=1,
        help="Longest pause, in seconds, before a listener that is away is tried again; the first lasts a second.",
    ),
    cfg.IntOpt(
        "keep_hours", default=168, min=1, help="Hours after which an event that no listener took is given up."
    ),
]

web_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "bind",
        default="127.0.0.1",
        help="Address at which hostler web listens; beyond loopback only with TLS.",
    ),
    cfg.PortOpt("port", default=8780, help="Its port."),
    cfg.StrOpt(
        "tokens_file",
        default="/etc/hostler/web-tokens",
        help="Who may come; hostler token create adds to it.",
    ),
    cfg.StrOpt(
        "tls_cert", help="File of its certificate (PEM, with what the clients need up to their root)."
    ),
    cfg.StrOpt("tls_key", help="File of the certificate's key."),
]

metrics_opts: list[cfg.Opt] = [
    cfg.IntOpt(
        "port",
        default=0,
        min=0,
        max=65535,
        help="Port at which the worker serves /metrics, /healthz and /readyz; 0 for none.",
    ),
    cfg.StrOpt(
        "listen",
        default="127.0.0.1",
        help="Address of that port. It is neither encrypted nor asks who comes; no server is named there.",
    ),
    cfg.FloatOpt(
        "keep",
        default=15.0,
        min=1,
        help="Seconds that what the records say is kept: the database is asked no more often, however many ask.",
    ),
    cfg.FloatOpt(
        "stalled_after",
        default=120.0,
        min=1,
        help="Seconds that the worker's main loop may be late before /healthz says that it hangs.",
    ),
]

tracing_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "endpoint",
        help="OTLP collector to which the worker sends a trace of each migration: https://HOST:4318, or http:// to this"
        " machine alone. None for no traces. /v1/traces is added to an address without a path.",
    ),
    cfg.StrOpt("ca_file", help="Certificates that it trusts there, in PEM, instead of the usual ones."),
    cfg.DictOpt(
        "headers",
        default={},
        secret=True,
        help="What it says of itself to the collector: Authorization:Bearer TOKEN.",
    ),
    cfg.FloatOpt(
        "timeout",
        default=5.0,
        min=0.1,
        help="Seconds until spans that the collector does not take are dropped.",
    ),
    cfg.IntOpt(
        "queue", default=2048, min=1, help="Spans that wait for the collector; those beyond are dropped."
    ),
]
