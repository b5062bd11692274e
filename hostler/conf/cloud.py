"""Settings of the services of a cloud that drivers use."""

from __future__ import annotations

from oslo_config import cfg

openstack_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "cloud",
        default="openstack",
        help="Which cloud of clouds.yaml has the services that drivers use (placement, neutron, cinder).",
    ),
    cfg.StrOpt(
        "clouds_file",
        help="That clouds.yaml, where it does not lie in one of openstacksdk's places: /etc/openstack, for example.",
    ),
    cfg.FloatOpt("timeout", default=20.0, min=0.1, help="Seconds that a service has for an answer."),
    cfg.IntOpt(
        "retries",
        default=3,
        min=0,
        help="How often a request is sent again to a service that did not answer, or with 5xx.",
    ),
    cfg.FloatOpt(
        "patience",
        default=60.0,
        min=0.1,
        help="Seconds that a request is tried again which others overtake, and that rivals for a host are waited for.",
    ),
    cfg.DictOpt(
        "resource_providers",
        default={},
        help="What hosts are called in Placement, where that is not their name here: kvm1:kvm1.example.org.",
    ),
    cfg.DictOpt(
        "network_hosts",
        default={},
        help="What hosts are called in Neutron (binding:host_id), where that is not their name here.",
    ),
    cfg.FloatOpt(
        "vif_plugging_timeout",
        default=0.0,
        min=0,
        help="Seconds that a guest, made and not yet running, waits until Neutron says that its ports are plugged in"
        " (network-vif-plugged). 0: it does not wait. More only where Neutron has been told to say it to hostler web.",
    ),
    cfg.BoolOpt(
        "vif_plugging_is_fatal",
        default=True,
        help="Whether a migration is undone where Neutron does not say so in time, or says that it failed."
        " Otherwise the history has a warning, and the guest is started.",
    ),
    cfg.DictOpt(
        "volume_hosts",
        default={},
        help="What hosts are called in Cinder's attachments (host_name), where that is not their name here.",
    ),
    cfg.BoolOpt(
        "volume_use_multipath",
        default=False,
        help="Whether this host connects volumes of Cinder's by all paths, through multipathd; Nova's setting.",
    ),
    cfg.BoolOpt(
        "volume_enforce_multipath",
        default=False,
        help="Whether a host on which multipathd does not run is refused then; else one path is used. Nova's setting.",
    ),
    cfg.StrOpt(
        "nfs_mount_point_base",
        default="/var/lib/nova/mnt",
        help="Where this host mounts the file systems of Cinder's volumes; Nova's setting.",
    ),
    cfg.StrOpt(
        "brick_lock_path",
        default="/run/hostler/os-brick",
        help="Directory of os-brick's locks. Where Nova or Cinder connects volumes on this host, too, it is theirs:"
        " lock_path of [os_brick], or of [oslo_concurrency].",
    ),
]

ovn_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "northbound",
        help="Where OVN's northbound database is, with ports = ovn: ssl:ADDRESS:6641 or tcp:ADDRESS:6641, or several"
        " with commas between.",
    ),
    cfg.StrOpt("southbound", help="Where its southbound database is: ssl:ADDRESS:6642."),
    cfg.StrOpt("private_key", help="This host's key for ssl:, in PEM."),
    cfg.StrOpt("certificate", help="The certificate that belongs to it."),
    cfg.StrOpt("ca_certificate", help="The certificate of whoever signed those of the databases."),
    cfg.DictOpt(
        "hosts",
        default={},
        help="What chassis are called, by name or hostname, where that is not the host's own name: kvm1:chassis-1.",
    ),
    cfg.FloatOpt("timeout", default=20.0, min=0.1, help="Seconds that a database has for an answer."),
]
