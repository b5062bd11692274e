"""Settings of what all hosts share: the records' database, and ZooKeeper."""

from __future__ import annotations

from oslo_config import cfg

database_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "connection",
        secret=True,
        help="SQLAlchemy URL of the records: postgresql+psycopg2://..., mysql+pymysql://..., or sqlite:///FILE"
        " where every host sees that file on one machine.",
    ),
    cfg.IntOpt(
        "connect_timeout", default=5, min=1, help="Seconds until an unanswered connection is given up."
    ),
]

zookeeper_opts: list[cfg.Opt] = [
    cfg.ListOpt("hosts", default=[], help="ZooKeeper servers, host:port each."),
    cfg.StrOpt("root", default="/hostler", help="Node under which everything of hostler lies."),
    cfg.BoolOpt(
        "tls", default=False, help="Whether these are ports for TLS: the servers prove who they are."
    ),
    cfg.StrOpt("ca_file", help="Certificates that are trusted there, in PEM, beside the system's."),
    cfg.StrOpt("tls_cert", help="File of this machine's own certificate (PEM), where the servers want one."),
    cfg.StrOpt("tls_key", help="File of that certificate's key."),
    cfg.StrOpt(
        "auth",
        choices=[
            ("digest", "whoever knows user and password may touch what hostler has in ZooKeeper"),
            ("sasl", "the same, and the servers know the user; wants the extra hostler[sasl]"),
        ],
        help="How hostler proves to ZooKeeper who it is. None: it does not, and anybody may touch what it has there.",
    ),
    cfg.StrOpt("user", help="Who it is; the same on every host."),
    cfg.StrOpt("password", secret=True, help="What proves it."),
    cfg.FloatOpt(
        "session_timeout", default=10.0, min=1, help="Seconds after which a silent worker loses its claims."
    ),
    cfg.FloatOpt(
        "connect_timeout", default=5.0, min=0.5, help="Seconds until an unanswered connection is given up."
    ),
    cfg.FloatOpt(
        "relist_interval",
        default=30.0,
        min=1,
        help="Seconds between two looks at the whole board: the net under the watches.",
    ),
    cfg.FloatOpt(
        "reconcile_interval",
        default=60.0,
        min=1,
        help="Seconds between two comparisons of board and records.",
    ),
    cfg.FloatOpt(
        "posting_timeout",
        default=30.0,
        min=1,
        help="Seconds after which a migration that was never posted is given up.",
    ),
]
