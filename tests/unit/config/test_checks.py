"""What one value cannot know about another, and which addresses are refused."""

import pytest

from gateway.config import ConfigError, load


OTHER = "tcp://127.0.0.1:7000"


def problem(**flags: str | list[str]) -> str:
    """The only problem of these flags."""
    with pytest.raises(ConfigError) as caught:
        load(None, {}, {key.replace("__", "."): value for key, value in flags.items()})
    [found] = caught.value.problems
    return str(found)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_alone_is_served_without_more_ado(host: str) -> None:
    assert host == load(None, {}, {"host": host}).host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "gateway.example"])
def test_serving_other_machines_must_be_asked_for_by_name(host: str) -> None:
    """Nobody is authenticated yet, so an open port would let anyone read and broadcast."""
    assert "without authentication" in problem(host=host)
    assert "--insecure-allow-remote" in problem(host=host)
    assert host == load(None, {}, {"host": host, "insecure_allow_remote": "true"}).host


def test_of_several_hosts_each_counts() -> None:
    assert ("127.0.0.1", "::1") == load(None, {}, {"host": "127.0.0.1, ::1"}).hosts
    assert problem(host="127.0.0.1,192.168.1.2").startswith("host: '192.168.1.2' can be reached from other machines")
    assert problem(host=["::1", "a b"]).startswith("host: 'a b' is not a host")
    assert problem(host=",").startswith("host: the list is empty")


@pytest.mark.parametrize("host", ["", "a b", "http://x", "[::1]"])
def test_a_host_is_an_address_or_a_name(host: str) -> None:
    assert "is not a host" in problem(host=host)


@pytest.mark.parametrize("bind", ["tcp://0.0.0.0:5556", "tcp://*:5556", "tcp://[::]:5556"])
def test_a_bus_endpoint_for_other_machines_must_be_asked_for_by_name(bind: str) -> None:
    assert problem(bind=bind).startswith(f"bind: {bind!r} can be reached from other machines")
    assert bind == load(None, {}, {"bind": bind, "insecure_allow_remote": "true"}).bind


@pytest.mark.parametrize("bind", ["", "tcp://127.0.0.1:*", "tcp://[::1]:5556", "tcp://lo:5556", "ipc:///tmp/bus"])
def test_a_bus_endpoint_on_this_machine_is_bound_without_more_ado(bind: str) -> None:
    assert bind == load(None, {}, {"bind": bind}).bind


@pytest.mark.parametrize("endpoint", ["tcp://10.0.0.1:5555", "tcp://publisher.example:5555"])
def test_publishers_elsewhere_may_be_connected_to(endpoint: str) -> None:
    assert (endpoint,) == load(None, {}, {"connect": [endpoint]}).connect


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("127.0.0.1:5555", "is neither a tcp:// nor an ipc:// endpoint"),
        ("inproc://bus", "is neither a tcp:// nor an ipc:// endpoint"),
        ("udp://127.0.0.1:5555", "is neither a tcp:// nor an ipc:// endpoint"),
        ("tcp://127.0.0.1", "has no host or no port"),
        ("tcp://:5555", "has no host or no port"),
        ("tcp://127.0.0.1:", "has no port from 1 to 65535"),
        ("tcp://127.0.0.1:0", "has no port from 1 to 65535"),
        ("tcp://127.0.0.1:*", "has no port from 1 to 65535"),
        ("tcp://127.0.0.1:65536", "has no port from 1 to 65535"),
        ("tcp://127.0.0.1:²", "has no port from 1 to 65535"),
        ("ipc://", "has no path"),
        ("ipc:///" + "x" * 107, "has a path of more than 107 bytes"),
    ],
)
def test_an_endpoint_that_zeromq_could_not_use_is_refused(endpoint: str, reason: str) -> None:
    assert f"connect: {endpoint!r} {reason}" in problem(connect=[endpoint])


def test_the_default_bind_gives_way_to_the_same_endpoint_in_connect() -> None:
    assert "" == load(None, {}, {"connect": ["tcp://localhost:5556"]}).bind


def test_a_given_bind_that_is_also_in_connect_is_refused() -> None:
    assert "is also in connect" in problem(bind=OTHER, connect=[OTHER])


def test_an_endpoint_named_twice_is_refused() -> None:
    assert "is listed 2 times" in problem(connect=["tcp://localhost:1", "tcp://127.0.0.1:1"])


def test_a_gateway_with_nothing_to_receive_from_is_refused() -> None:
    assert "no endpoint to receive events from" in problem(connect="", bind="")


def test_a_publisher_may_only_bind_or_only_connect() -> None:
    assert () == load(None, {}, {"connect": ""}).connect
    assert "" == load(None, {}, {"bind": ""}).bind


def test_a_heartbeat_must_have_time_to_be_answered() -> None:
    assert "15.0 is not above bus.heartbeat_seconds (15.0)" in problem(bus__heartbeat_seconds="15")


def test_the_longest_pause_is_no_shorter_than_the_first() -> None:
    assert "1.0 is below bus.reconnect_seconds (6.0)" in problem(bus__reconnect_seconds="6")


def test_one_gateway_cannot_number_what_it_does_not_subscribe_to() -> None:
    told = problem(**{"cluster.url": "redis://x", "cluster.numbering": "one", "history.on_demand": "true"})
    assert "cluster.numbering" in told
    assert "on_demand" in told


def test_one_channel_on_demand_needs_all_to_be() -> None:
    """A ZeroMQ subscription to everything cannot leave one out."""
    told = problem(**{"channels.camera.on_demand": "true"})
    assert "cannot subscribe to all channels except one" in told
    flags = {"history.on_demand": "true", "channels.metrics.on_demand": "false"}
    config = load(None, {}, flags)
    assert (config.channels["metrics"].on_demand, config.history.on_demand) == (False, True)


@pytest.mark.parametrize("path", ["data.", ".", "a..b"])
def test_a_key_is_a_path(path: str) -> None:
    assert "is not a path" in problem(history__key=path)
    assert "channels.metrics.key" in problem(**{"channels.metrics.key": path})


@pytest.mark.parametrize(
    ("key", "value", "named", "reason"),
    [
        ("allowed_origins", "https://a.example/path", "allowed_origins", "is not a valid origin"),
        ("allowed_origins", "a.example", "allowed_origins", "is not a valid origin"),
        ("allowed_hosts", "a.example:80", "allowed_hosts", "is not a host name"),
        ("trusted_proxies", "10.0.0.300", "trusted_proxies", "does not appear to be an IPv4"),
        ("roles.viewer.subscribe", "a..b", "roles.viewer.subscribe", "is not a channel pattern"),
        ("roles.viewer.presence", "$all", "roles.viewer.presence", "is not a channel pattern"),
        ("auth.unauthenticated_role", "nobody", "auth.unauthenticated_role", "is not a role"),
        ("tls.cert_file", "/a.pem", "tls.key_file", "is missing"),
        ("tls.key_file", "/a.pem", "tls.cert_file", "is missing"),
        ("bus.curve_client_keys_dir", "/keys", "bus.curve_key_file", "is required for CURVE"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_remedy(key: str, value: str, named: str, reason: str) -> None:
    found = problem(**{key: value})

    assert found.startswith(f"{named}: ")
    assert reason in found
    assert "; " in found
