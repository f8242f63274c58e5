"""What one value cannot know about another, and which addresses are safe to use."""

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from msgspec import structs

from gateway.config.errors import Problem
from gateway.config.model import Config


_SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path, less its final zero
_REMOTE = (
    "is reached from other machines, and nobody is authenticated yet: stay on 127.0.0.1 behind a "
    "proxy that authenticates"
)
_REMOTE_REMEDY = "or set insecure_allow_remote = true (--insecure-allow-remote)"


def check(config: Config, origins: Mapping[str, str]) -> list[Problem]:
    """Everything that is wrong with values that are fine one by one; `origins` by key path."""
    return [
        Problem(key, reason, remedy, origins.get(key, ""))
        for key, reason, remedy in (*_addresses(config), *_bus(config, origins))
    ]


def without_own_bind(config: Config) -> Config:
    """The same without the default `bind` if that is one of the endpoints to connect to."""
    taken = _same(config.bind) in map(_same, config.connect)
    return structs.replace(config, bind="") if taken else config


def _addresses(config: Config) -> Iterator[tuple[str, str, str]]:
    if not config.host or any(c.isspace() or c in "/[]" for c in config.host):
        yield "host", f"{config.host!r} is not a host", "give an address or a name without brackets"
    elif not config.insecure_allow_remote and not _is_loopback(config.host):
        yield "host", f"{config.host!r} {_REMOTE}", _REMOTE_REMEDY
    for endpoint in config.connect:
        if problem := _endpoint_problem(endpoint, any_port=False):
            yield "connect", f"{endpoint!r} {problem}", "write tcp://host:port or ipc:///path"
    if not config.bind:
        return
    if problem := _endpoint_problem(config.bind, any_port=True):
        yield (
            "bind",
            f"{config.bind!r} {problem}",
            'write tcp://host:port or ipc:///path, or "" for none',
        )
    elif config.bind.startswith("tcp://") and not config.insecure_allow_remote:
        host = config.bind.removeprefix("tcp://").rpartition(":")[0].strip("[]")
        if not _is_loopback(host):
            yield "bind", f"{config.bind!r} {_REMOTE}", _REMOTE_REMEDY


def _bus(config: Config, origins: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    if not config.connect and not config.bind:
        yield "connect", "there is no endpoint to receive from", "give connect or bind"
    for endpoint, times in Counter(map(_same, config.connect)).items():
        if times > 1:
            yield (
                "connect",
                f"{endpoint!r} is there {times} times",
                "events would arrive as often; name it once",
            )
    if "bind" in origins and config.bind and _same(config.bind) in map(_same, config.connect):
        yield (
            "bind",
            f"{config.bind!r} is also in connect",
            "the gateway would connect to itself; leave one out",
        )
    if not config.log.on_demand:
        for name, own in config.channels.items():
            if own.on_demand:
                yield (
                    f"channels.{name}.on_demand",
                    "ZeroMQ has no subscription to everything but one channel",
                    "set log.on_demand = true, and on_demand = false for those to be fetched always",
                )
    for key, own in (
        ("log", config.log),
        *((f"channels.{n}", c) for n, c in config.channels.items()),
    ):
        if own.key and not all(own.key.split(".")):
            yield f"{key}.key", f"{own.key!r} is no path", 'names joined by dots, as in "data.host"'
    bus = config.bus
    if bus.reconnect_seconds_max < bus.reconnect_seconds:
        reason = (
            f"{bus.reconnect_seconds_max} is below bus.reconnect_seconds ({bus.reconnect_seconds})"
        )
        yield "bus.reconnect_seconds_max", reason, "raise it, or lower the other"
    if bus.heartbeat_timeout_seconds <= bus.heartbeat_seconds:
        reason = f"{bus.heartbeat_timeout_seconds} is not above bus.heartbeat_seconds ({bus.heartbeat_seconds})"
        yield "bus.heartbeat_timeout_seconds", reason, "three times the other is usual"


def _endpoint_problem(endpoint: str, *, any_port: bool) -> str:
    """What is wrong with an endpoint, to follow its name; empty if nothing is."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in {"tcp", "ipc"}:
        return "is neither a tcp:// nor an ipc:// endpoint"
    if scheme == "ipc":
        if not rest:
            return "names no path"
        if len(rest.encode()) > _SOCKET_PATH_BYTES_MAX:
            return f"has a path of more than {_SOCKET_PATH_BYTES_MAX} bytes"
        return ""
    host, _, port = rest.rpartition(":")
    if not host:
        return "names no host or no port"
    if any_port and port in {"*", "0"}:
        return ""
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return "has no port from 1 to 65535"
    return ""


def _is_loopback(host: str) -> bool:
    if host in {"localhost", "lo"}:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _same(endpoint: str) -> str:
    return endpoint.replace("//localhost:", "//127.0.0.1:")
