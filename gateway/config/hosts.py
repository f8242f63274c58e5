"""The host in an endpoint: a name, which may have several addresses, or an address."""

import contextlib
import ipaddress
import re


_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


def host_name(endpoint: str) -> str:
    """Return the name in a ``tcp://NAME:PORT`` endpoint; "" if it has an address or `localhost`, or is none of TCP."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    if not endpoint.startswith("tcp://") or host == "localhost" or not _NAME.fullmatch(host):
        return ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return ""
    return host


def with_host(endpoint: str, host: str) -> str:
    """Return a ``tcp://`` endpoint with another host; IPv6 addresses get their brackets."""
    port = endpoint.rpartition(":")[2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def beside(endpoint: str, other: str) -> str:
    """Return a ``tcp://`` endpoint at the host of another one, which may be ``ipc://``, on this machine."""
    host = "127.0.0.1" if other.startswith("ipc://") else address(other).rpartition(":")[0].strip("[]")
    return with_host(endpoint, host)


def address(endpoint: str) -> str:
    """Return what follows the scheme of an endpoint, as in ``10.0.0.7:5556``."""
    return endpoint.partition("://")[2]
