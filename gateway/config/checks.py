"""Checks that need more than one setting, and which addresses are safe."""

import os
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from msgspec import structs

from gateway.config.cluster import URL_FORMS, parse_url
from gateway.config.errors import Problem
from gateway.config.model import Config
from gateway.core.protocol.channels import EVERYONE, PERSONAL, is_pattern
from gateway.core.sources import spec


_SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path, less its final zero
_CONTROL_SUFFIX_BYTES = 12
"""For the name under which the control socket is made before it has its own."""
_REMOTE = "can be reached from other machines without authentication"
_REMOTE_REMEDY = "{}, or set insecure_allow_remote = true (--insecure-allow-remote) to allow it"
_CURVE_REMEDY = "set bus.curve_key_file and bus.curve_client_keys_dir"
_SECRET_BYTES_MIN = 32  # RFC 7518, section 3.2
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DNS_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def check(config: Config, origins: Mapping[str, str]) -> list[Problem]:
    """Return what is wrong with settings that are valid by themselves; `origins` are by key path."""
    return [
        Problem(key, reason, remedy, origins.get(key, ""))
        for key, reason, remedy in (
            *_workers(config),
            *_addresses(config),
            *_bus(config, origins),
            *_sources(config, origins),
            *_curve(config),
            *_auth(config),
            *_roles(config),
            *_http(config),
            *_cluster(config),
        )
    ]


def without_own_bind(config: Config) -> Config:
    """Return the configuration without the default `bind` if `connect` or a source has the same endpoint."""
    taken = same_endpoint(config.bind) in map(
        same_endpoint, (*config.connect, *(source.endpoint for source in config.bus.sources))
    )
    return structs.replace(config, bind="") if taken else config


def _workers(config: Config) -> Iterator[tuple[str, str, str]]:
    if config.workers > 1 and not hasattr(socket, "SCM_RIGHTS"):
        yield ("workers", f"{config.workers} processes need SCM_RIGHTS, which this system lacks", "use 1")


def _addresses(config: Config) -> Iterator[tuple[str, str, str]]:
    if len(os.fsencode(config.control_file)) > _SOCKET_PATH_BYTES_MAX - _CONTROL_SUFFIX_BYTES:
        yield ("control_file", f"{config.control_file!r} is too long for a Unix socket", "choose a shorter path")
    if not config.hosts:
        yield ("host", "the list is empty", "name at least one address")
    for host in config.hosts:
        if not host or any(c.isspace() or c in ",/[]" for c in host):
            yield ("host", f"{host!r} is not a host", "expected an address or a host name, without brackets")
        elif not (config.insecure_allow_remote or config.auth.required or is_loopback(host)):
            yield ("host", f"{host!r} {_REMOTE}", _REMOTE_REMEDY.format("configure auth, use 127.0.0.1"))
    for endpoint in config.connect:
        if problem := _endpoint_problem(endpoint, any_port=False):
            yield "connect", f"{endpoint!r} {problem}", "expected tcp://HOST:PORT or ipc:///PATH"
    if not config.bind:
        return
    if problem := _endpoint_problem(config.bind, any_port=True):
        yield ("bind", f"{config.bind!r} {problem}", 'expected tcp://HOST:PORT, ipc:///PATH or "" for none')
    elif _is_exposed(config.bind, config):
        yield "bind", f"{config.bind!r} {_REMOTE}", _REMOTE_REMEDY.format(_CURVE_REMEDY)


def _is_exposed(endpoint: str, config: Config, *, curve: bool = True) -> bool:
    """Return whether binding an endpoint lets anybody on other machines publish, although that is not allowed."""
    has_keys = curve and bool(config.bus.curve_client_keys_dir)
    if not endpoint.startswith("tcp://") or config.insecure_allow_remote or has_keys:
        return False
    return not is_loopback(endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]"))


def _sources(config: Config, origins: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    seen: set[str] = set()
    for number, source in enumerate(config.bus.sources):
        key = f"bus.sources[{number}]"
        endpoint, is_bound = source.endpoint, source.mode == "bind"
        if problem := _endpoint_problem(endpoint, any_port=is_bound):
            yield f"{key}.endpoint", f"{endpoint!r} {problem}", "expected tcp://HOST:PORT or ipc:///PATH"
        elif is_bound and _is_exposed(endpoint, config, curve=source.curve):
            yield f"{key}.endpoint", f"{endpoint!r} {_REMOTE}", _REMOTE_REMEDY.format(_CURVE_REMEDY)
        if source.replay and (problem := _endpoint_problem(source.replay, any_port=False)):
            yield f"{key}.replay", f"{source.replay!r} {problem}", "expected tcp://HOST:PORT or ipc:///PATH"
        if same_endpoint(endpoint) in seen:
            yield f"{key}.endpoint", f"{endpoint!r} has a source already", "write one source per endpoint"
        seen.add(same_endpoint(endpoint))
        if is_bound and same_endpoint(endpoint) in map(same_endpoint, config.connect) and "connect" in origins:
            yield f"{key}.mode", f"{endpoint!r} is also in connect", 'set mode = "connect", or remove it there'
        if not is_bound and same_endpoint(endpoint) == same_endpoint(config.bind) and "bind" in origins:
            yield f"{key}.mode", f"{endpoint!r} is also in bind", 'set mode = "bind", or remove it there'
        for name, reason, remedy in spec.problems(source):
            yield f"{key}.{name}", reason, remedy


def _bus(config: Config, origins: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    if not (config.connect or config.bind or config.bus.sources):
        yield "connect", "there is no endpoint to receive events from", "set connect or bind"
    for endpoint, times in Counter(map(same_endpoint, config.connect)).items():
        if times > 1:
            yield (
                "connect",
                f"{endpoint!r} is listed {times} times",
                "list it once: each event would be received as often",
            )
    if "bind" in origins and config.bind and same_endpoint(config.bind) in map(same_endpoint, config.connect):
        yield ("bind", f"{config.bind!r} is also in connect", "remove one: the gateway would connect to itself")
    if config.cluster.numbering == "one" and any(one.on_demand for one in (config.history, *config.channels.values())):
        reason = "'one' gateway cannot number what it is not subscribed to on the bus (on_demand)"
        yield "cluster.numbering", reason, "set on_demand = false, or cluster.numbering = 'each'"
    if not config.history.on_demand:
        for name, own in config.channels.items():
            if own.on_demand:
                yield (
                    f"channels.{name}.on_demand",
                    "ZeroMQ cannot subscribe to all channels except one",
                    "set history.on_demand = true, and on_demand = false for all other channels",
                )
    for key, own in (("history", config.history), *((f"channels.{n}", c) for n, c in config.channels.items())):
        if own.key and not all(own.key.split(".")):
            yield (f"{key}.key", f"{own.key!r} is not a path", 'expected names joined by dots, as in "data.host"')
    bus = config.bus
    yield from _outlet(config)
    if bus.reconnect_seconds_max < bus.reconnect_seconds:
        reason = f"{bus.reconnect_seconds_max} is below bus.reconnect_seconds ({bus.reconnect_seconds})"
        yield "bus.reconnect_seconds_max", reason, "raise it, or lower bus.reconnect_seconds"
    if bus.heartbeat_seconds > 0 and bus.heartbeat_timeout_seconds <= bus.heartbeat_seconds:
        reason = f"{bus.heartbeat_timeout_seconds} is not above bus.heartbeat_seconds ({bus.heartbeat_seconds})"
        yield ("bus.heartbeat_timeout_seconds", reason, "raise it; three times bus.heartbeat_seconds is usual")


def _outlet(config: Config) -> Iterator[tuple[str, str, str]]:
    bus = config.bus
    received = [*config.connect, config.bind, *(source.endpoint for source in bus.sources)]
    if bus.publish and same_endpoint(bus.publish) in map(same_endpoint, filter(None, received)):
        yield "bus.publish", f"{bus.publish!r} is also an endpoint to receive events from", "choose another"
    for key, endpoint in (
        ("bus.publish", bus.publish),
        ("bus.publish_replay", bus.publish_replay),
        ("proxy.publish", config.proxy.publish),
        ("proxy.replay", config.proxy.replay),
    ):
        if (endpoint or key == "proxy.publish") and (problem := _endpoint_problem(endpoint, any_port=True)):
            yield key, f"{endpoint!r} {problem}", "expected tcp://HOST:PORT or ipc:///PATH"
        elif endpoint and _is_exposed(endpoint, config):
            yield key, f"{endpoint!r} {_REMOTE}", _REMOTE_REMEDY.format(_CURVE_REMEDY)
    for pattern in bus.publish_channels:
        if not is_pattern(pattern):
            yield "bus.publish_channels", f"{pattern!r} is not a channel or pattern", "expected a name as in core.>"


def _curve(config: Config) -> Iterator[tuple[str, str, str]]:
    bus = config.bus
    key = "bus.curve_key_file"
    if bus.curve_key_file:
        modes = {source.mode for source in bus.sources if source.curve}
        if (config.connect or "connect" in modes) and not bus.curve_server_key_file:
            yield (
                "bus.curve_server_key_file",
                "is required to connect with CURVE",
                "name the file with the publishers' public key",
            )
        if (config.bind or "bind" in modes) and not bus.curve_client_keys_dir:
            yield (
                "bus.curve_client_keys_dir",
                "is required to bind with CURVE",
                "name a folder with the publishers' public keys",
            )
    elif bus.curve_server_key_file or bus.curve_client_keys_dir:
        yield key, "is required for CURVE", "make a key with `gateway keys`"


def _auth(config: Config) -> Iterator[tuple[str, str, str]]:
    auth = config.auth
    given = [name for name in auth.SOURCES if getattr(auth, name)]
    if len(given) > 1:
        yield f"auth.{given[1]}", f"cannot be combined with auth.{given[0]}", "remove one"
    if 0 < len(auth.secret.encode()) < _SECRET_BYTES_MIN:
        yield (
            "auth.secret",
            f"is shorter than {_SECRET_BYTES_MIN} bytes",
            "use a random one, for example from `openssl rand -base64 48`",
        )
    schemes = ("https://", "http://") if auth.insecure_jwks else ("https://",)
    if auth.jwks_url and not auth.jwks_url.startswith(schemes):
        yield (
            "auth.jwks_url",
            "is not an https URL",  # without the URL: it may hold a password
            "use https, or set auth.insecure_jwks = true on a trusted network",
        )
    if auth.unauthenticated_role not in config.roles:
        yield (
            "auth.unauthenticated_role",
            f"{auth.unauthenticated_role!r} is not a role",
            f"expected one of {', '.join(config.roles)}",
        )


def _roles(config: Config) -> Iterator[tuple[str, str, str]]:
    for name, role in config.roles.items():
        for action in ("subscribe", "publish", "presence"):
            for pattern in getattr(role, action):
                own = action == "publish" and pattern in {EVERYONE, PERSONAL}
                if not (own or is_pattern(pattern)):
                    yield (
                        f"roles.{name}.{action}",
                        f"{pattern!r} is not a channel pattern",
                        'expected a name, with `*` for a segment or a final `>`, as in "logs.*"',
                    )


def _http(config: Config) -> Iterator[tuple[str, str, str]]:
    if bool(config.tls.cert_file) != bool(config.tls.key_file):
        missing = "tls.key_file" if config.tls.cert_file else "tls.cert_file"
        yield missing, "is missing", "set both tls.cert_file and tls.key_file, or none"
    for origin in config.allowed_origins:
        parts = urlsplit(origin)
        whole = parts.scheme in {"http", "https"} and origin == f"{parts.scheme}://{parts.netloc}"
        if origin not in {"*", "null"} and not (whole and parts.hostname):
            yield (
                "allowed_origins",
                f"{origin!r} is not a valid origin",
                "expected scheme://host[:port], without a path",
            )
    for host in config.allowed_hosts:
        if not _DNS_NAME.fullmatch(host):
            yield ("allowed_hosts", f"{host!r} is not a host name", "expected a name without a port")
    for proxy in config.trusted_proxies:
        try:
            ip_network(proxy)
        except ValueError as error:
            yield ("trusted_proxies", str(error), 'expected an address or a network, as in "10.0.0.0/8"')


def _cluster(config: Config) -> Iterator[tuple[str, str, str]]:
    cluster = config.cluster
    if not cluster.url:
        if cluster.password_file or cluster.ca_file:
            key = "password_file" if cluster.password_file else "ca_file"
            yield f"cluster.{key}", "has no effect without cluster.url", "set cluster.url, or remove it"
        return
    try:
        address = parse_url(cluster.url)
    except ValueError as error:
        # Without the URL: it may hold a password.
        yield "cluster.url", str(error), f"expected {URL_FORMS}"
        return
    if cluster.password_file and address.password:
        yield "cluster.password_file", "cannot be combined with a password in cluster.url", "remove one"
    if cluster.ca_file and not address.tls:
        yield "cluster.ca_file", "has no effect without TLS", "write rediss:// or rediss+sentinel:// in cluster.url"
    if not _PREFIX.fullmatch(cluster.prefix):
        yield "cluster.prefix", f"{cluster.prefix!r} is not a prefix of keys", "expected A-Z a-z 0-9 _ - . :"


def _endpoint_problem(endpoint: str, *, any_port: bool) -> str:
    """Return what is wrong with an endpoint, to follow its name; empty if nothing is."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in {"tcp", "ipc"}:
        return "is neither a tcp:// nor an ipc:// endpoint"
    if scheme == "ipc":
        if not rest:
            return "has no path"
        if len(rest.encode()) > _SOCKET_PATH_BYTES_MAX:
            return f"has a path of more than {_SOCKET_PATH_BYTES_MAX} bytes"
        return ""
    host, _, port = rest.rpartition(":")
    if not host:
        return "has no host or no port"
    if any_port and port in {"*", "0"}:
        return ""
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return "has no port from 1 to 65535"
    return ""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host in {"localhost", "lo"}:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def same_endpoint(endpoint: str) -> str:
    """Return what endpoints that are the same address have in common."""
    return endpoint.replace("//localhost:", "//127.0.0.1:")
