"""Who may knock: by which name, from which web page, and from which address.

Decisions alone; `gateway.web.app` puts them before every handler.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from gateway.config.checks import is_loopback
from gateway.config.model import Config
from gateway.core.protocol.errors import ErrorCode, RequestError


Address = IPv4Address | IPv6Address

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_SHOWN_CHARS = 80
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?", re.ASCII)
_NAME = re.compile(
    r"(?=.{1,254}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
    r"(?!(0x[0-9a-f]*|[0-9]+)\.?$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?",
    re.ASCII,
)
"""A name of DNS, not one that a browser would take for an address, as 127.1 or 0x7f000001."""
_ORIGIN = re.compile(r"(https?)://([^/?#@\\]+)", re.ASCII)
_PROTO = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from."""

    address: str
    scheme: str
    """``http`` or ``https``, as the client sees it."""


class AccessPolicy:
    """What one configuration lets in."""

    def __init__(self, config: Config) -> None:
        self._names = {"localhost", config.host.lower(), *map(str.lower, config.allowed_hosts)}
        self._any_name = not config.allowed_hosts and not is_loopback(config.host)
        self._origins = {_normal(origin) or origin for origin in config.allowed_origins}
        self._proxies = [ip_network(proxy) for proxy in config.trusted_proxies]

    def caller(
        self, peer: str, scheme: str, forwarded_for: Sequence[str], forwarded_proto: Sequence[str]
    ) -> Caller:
        """Say where a request comes from: as a trusted proxy tells, otherwise as the socket does.

        `forwarded_for` and `forwarded_proto` are the values of the X-Forwarded headers, in order.
        """
        if not (self._proxies and self._trusted(_address(peer))):
            return Caller(peer, scheme)
        last = ",".join(forwarded_proto).rpartition(",")[2].strip().lower()
        return Caller(self._origin_of(",".join(forwarded_for), peer), _PROTO.get(last, scheme))

    def check_host(self, values: Sequence[str], target: str | None) -> str:
        """Return the request's own host, and its port if that is given, in lower case.

        `values` are the Host headers, `target` is what the request line names beside the path.

        Raises:
            RequestError: There is not exactly one that could be meant, or it is none of ours.
        """
        if len(values) != 1:
            raise RequestError(ErrorCode.INVALID_FIELD, "Host: exactly one is needed")
        [authority] = values
        host = _host(authority)
        if host is None:
            raise RequestError(
                ErrorCode.INVALID_FIELD, f"Host: {shown(authority)} is no host with or without port"
            )
        if target is not None and target.lower() != authority.lower():
            raise RequestError(
                ErrorCode.INVALID_FIELD, "the address in the request line is not that in Host"
            )
        if not (host in self._names or self._any_name or _address(host.strip("[]"))):
            raise RequestError(
                ErrorCode.UNKNOWN_HOST,
                f"this gateway is not called {shown(host)}; the setting `allowed_hosts` says how it is",
            )
        return authority.lower()

    def check_origin(self, values: Sequence[str], *, scheme: str, host: str) -> str | None:
        """Return the origin of the web page that makes a request; None if no page does.

        `scheme` and `host` make up the request's own origin, see `check_host`.

        Raises:
            RequestError: Pages of this origin may not use the gateway.
        """
        if not values:
            return None
        given = ", ".join(values)
        origin = _normal(given)
        own = _normal(f"{scheme}://{host}")  # never None: `host` has been checked
        if (origin or given) in {own, *self._origins} or "*" in self._origins:
            return given
        raise RequestError(
            ErrorCode.FORBIDDEN_ORIGIN,
            f"pages of {shown(given)} may not use this gateway; the setting `allowed_origins` says whose may",
        )

    def _origin_of(self, forwarded: str, peer: str) -> str:
        """Return the nearest address that is no proxy of ours; all before it may be made up."""
        nearest = peer
        for part in reversed(forwarded.split(",")):
            address = _address(part.strip())
            if address is None:
                return peer
            nearest = str(address)
            if not self._trusted(address):
                break
        return nearest

    def _trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._proxies)


class AddressLimit:
    """How many clients each address has, and whether one more is too many.

    Those of this machine are not counted: they share one address. Of IPv6 a whole /64 counts as
    one, as that is what one customer gets.
    """

    def __init__(self, per_address_max: int) -> None:
        self._per_address_max = per_address_max
        self._taken: Counter[Address] = Counter()

    def full(self, address: str) -> bool:
        """Tell whether an address has as many clients as it may."""
        key = _place(address)
        return key is not None and self._taken[key] >= self._per_address_max

    def take(self, address: str) -> None:
        """Count a client that came in."""
        if (key := _place(address)) is not None:
            self._taken[key] += 1

    def free(self, address: str) -> None:
        """Count one that left."""
        if (key := _place(address)) is not None:
            self._taken[key] -= 1
            if self._taken[key] <= 0:
                del self._taken[key]


def check_framing(method: str, has_chunks: bool, header: Callable[[str], Sequence[str]]) -> None:
    """Refuse what this gateway and one in front of it might read in two ways.

    `has_chunks` is whether the request's version of HTTP knows chunks, that is 1.1 or later;
    `header` returns the values of a header.

    Raises:
        RequestError: Where the request ends, and what follows it, is open to doubt.
    """
    codings = [one.lower() for one in header("Transfer-Encoding")]
    wrong = ""
    if method == "CONNECT":
        wrong = "CONNECT: this is no proxy"
    elif codings and not (has_chunks and codings == ["chunked"]):
        wrong = "Transfer-Encoding: chunked alone is understood, and from HTTP/1.1 on"
    elif header("Upgrade") and (codings or {*header("Content-Length")} - {"0"}):
        wrong = "Upgrade: a request for another protocol has no body"
    if wrong:
        raise RequestError(ErrorCode.INVALID_FIELD, wrong)


def shown(text: str) -> str:
    """Return text from outside so that it can be put into a sentence."""
    return ascii(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def head_bytes(target: str, headers: Iterable[tuple[str, str]]) -> int:
    """Return about how long the head of a request was: exactly, if it is ASCII."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def _host(authority: str) -> str | None:
    """Return the host in a valid authority, in lower case; without user, port may be."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found[2] or 0) > 65535:
        return None
    host = found[1].lower()
    if host.startswith("["):
        return host if _address(host[1:-1]) else None
    return host if _address(host) or _NAME.fullmatch(host) else None


def _normal(origin: str) -> str | None:
    """Return an origin without its scheme's own port and in lower case; None if it is none."""
    found = _ORIGIN.fullmatch(origin)
    if found is None or _host(found[2]) is None:
        return None
    scheme, authority = found[1], found[2].lower()
    return f"{scheme}://{authority.removesuffix(':' + _DEFAULT_PORTS[scheme])}"


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])  # a link-local one names its interface
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _place(text: str) -> Address | None:
    address = _address(text)
    if address is None or address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return IPv6Address(int(address) >> 64 << 64)
    return address
