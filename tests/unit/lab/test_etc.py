"""What a host finds in its /etc."""

from configparser import ConfigParser

from lab.etc import Settings, contents

SETTINGS = Settings(
    host="kvm1",
    address="10.77.3.1",
    names={"kvm1": "10.77.3.1", "kvm2": "10.77.3.2"},
    database="sqlite:////lab/shared/hostler.db",
    zookeeper="10.77.3.254:2181",
)


def test_hostler_finds_its_host_its_records_and_its_boards() -> None:
    settings = ConfigParser()
    settings.read_string(contents(SETTINGS)["hostler/hostler.conf"])

    assert dict(settings["DEFAULT"]) == {
        "host": "kvm1",
        "my_ip": "10.77.3.1",
        "instances_path": "/var/lib/libvirt/instances",
        "state_path": "/var/lib/hostler",
    }
    assert settings["database"]["connection"] == "sqlite:////lab/shared/hostler.db"
    assert settings["zookeeper"]["hosts"] == "10.77.3.254:2181"


def test_every_host_resolves_by_name() -> None:
    assert "10.77.3.2 kvm2\n" in contents(SETTINGS)["hosts"]
