"""Which requests are accepted: by host, origin, forwarded address, and framing.

Decisions only; `gateway.web.app` makes them before any handler runs."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from gateway.config.checks import is_loopback
from gateway.config.model import Config
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.runtime.logs import logger
from gateway.web.problems import invalid_field


log = logger("gateway.http")

Address = IPv4Address | IPv6Address

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_SHOWN_CHARS = 80
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?", re.ASCII)
_NAME = re.compile(
    r"(?=.{1,254}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
    r"(?!(0x[0-9a-f]*|[0-9]+)\.?$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?",
    re.ASCII,
)
"""A DNS name, but none that a browser reads as an address, such as 127.1 or 0x7f000001."""
_ORIGIN = re.compile(r"(https?)://([^/?#@\\]+)", re.ASCII)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.%]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)
_PROTO = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Caller:
    address: str
    scheme: str
    """``http`` or ``https``, as the client sees it."""


class AccessPolicy:
    """The hosts, origins and proxies that a configuration accepts."""

    def __init__(self, config: Config) -> None:
        self._names = {"localhost", *map(str.lower, (*config.hosts, *config.allowed_hosts))}
        self._any_name = not config.allowed_hosts and not all(map(is_loopback, config.hosts))
        self._origins = {_normal(origin) or origin for origin in config.allowed_origins}
        self._noted: set[str] = set()
        self._proxies = [ip_network(proxy) for proxy in config.trusted_proxies]

    def caller(self, peer: str, scheme: str, forwarded_for: Sequence[str], forwarded_proto: Sequence[str]) -> Caller:
        """Return the client of a request: as a trusted proxy reports it, else the socket's peer.

        `forwarded_for` and `forwarded_proto` are the values of the X-Forwarded headers, in order."""
        if not (self._proxies and self._trusted(_address(peer))):
            return Caller(peer, scheme)
        last = ",".join(forwarded_proto).rpartition(",")[2].strip().lower()
        if last and last not in _PROTO:
            self._note("X-Forwarded-Proto", last)
        return Caller(self._client_address(",".join(forwarded_for), peer), _PROTO.get(last, scheme))

    def prefix(self, peer: str, values: Sequence[str]) -> str:
        """Return the path that a trusted proxy puts in front of the gateway's own; empty without one.

        `values` are those of the X-Forwarded-Prefix headers, in order.
        """
        if not (values and self._proxies and self._trusted(_address(peer))):
            return ""
        last = ",".join(values).rpartition(",")[2].strip().rstrip("/")
        if _PREFIX.fullmatch(last):
            return last
        self._note("X-Forwarded-Prefix", last)
        return ""

    def check_host(self, values: Sequence[str], target: str | None) -> str:
        """Return the request's host, with its port if that is given, in lower case.

        `values` are the Host headers, `target` is the authority in the request line, if there is one.
        Raises RequestError: the host is missing, ambiguous, invalid, or not one of this gateway."""
        if len(values) != 1:
            raise invalid_field(f"the request has {len(values)} Host headers; expected exactly one")
        [authority] = values
        host = _host(authority)
        if host is None:
            raise invalid_field(f"Host: {shown(authority)} is not a valid host; expected host[:port]")
        if target is not None and target.lower() != authority.lower():
            raise invalid_field("the host in the request line is not the one in the Host header; send the same in both")
        if not (host in self._names or self._any_name or _address(host.strip("[]"))):
            raise RequestError(
                ErrorCode.UNKNOWN_HOST,
                f"{shown(host)} is not a host of this gateway; add it to the setting `allowed_hosts`",
            )
        return authority.lower()

    def check_origin(self, values: Sequence[str], *, scheme: str, host: str) -> str | None:
        """Return the origin of the web page that sends a request; None without an Origin header.

        `scheme` and `host` make up the request's own origin, see `check_host`.
        Raises RequestError: pages of this origin are not allowed."""
        if not values:
            return None
        given = ", ".join(values)
        origin = _normal(given)
        own = _normal(f"{scheme}://{host}")  # None for an address that any host may have
        if (origin or given) in {own, *self._origins} or "*" in self._origins:
            return given
        raise RequestError(
            ErrorCode.FORBIDDEN_ORIGIN,
            f"the origin {shown(given)} is not allowed; add it to the setting `allowed_origins`",
        )

    def check_fetch_site(self, header: Callable[[str], Sequence[str]], *, opens: bool) -> None:
        """Refuse what a page of another origin requests without an Origin header: images, scripts, frames, forms.

        `header` returns the values of a header; `opens` is whether a link of such a page may open the address.
        Raises RequestError: a page of another origin sends the request."""
        foreign = not {*header("Sec-Fetch-Site")} <= {"same-origin", "none"}
        is_link = opens and [*header("Sec-Fetch-Mode"), *header("Sec-Fetch-Dest")] == ["navigate", "document"]
        if foreign and not is_link and not header("Origin") and "*" not in self._origins:
            raise RequestError(
                ErrorCode.FORBIDDEN_ORIGIN,
                "a page of another origin requests this without CORS; use fetch() or EventSource, "
                "and add the page's origin to the setting `allowed_origins`",
            )

    def _client_address(self, forwarded: str, peer: str) -> str:
        """Return the nearest address that is not a trusted proxy; those before it may be forged."""
        nearest = peer
        for part in reversed(forwarded.split(",")):
            text = part.strip()
            with_port = _WITH_PORT.fullmatch(text)
            address = _address(with_port[1] or with_port[2] if with_port else text)
            if address is None:
                if forwarded:
                    self._note("X-Forwarded-For", text)
                return peer
            nearest = str(address)
            if not self._trusted(address):
                break
        return nearest

    def _note(self, header: str, value: str) -> None:
        """Log once for each header that what a trusted proxy sends in it is not understood."""
        if header not in self._noted:
            self._noted.add(header)
            log.warning("proxy_header_ignored", header=header, value=shown(value))

    def _trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._proxies)


class AddressLimit:
    """Limits how many clients each address has.

    Loopback addresses have no limit: all clients of this machine share one. For IPv6 a whole /64
    counts as one address, as one customer is assigned that much."""

    def __init__(self, per_address_max: int) -> None:
        self.per_address_max = per_address_max
        self._counts: Counter[Address | None] = Counter()

    def is_reached(self, address: str) -> bool:
        key = _counted(address)
        return key is not None and self._counts[key] >= self.per_address_max

    def acquire(self, address: str) -> None:
        self._counts[_counted(address)] += 1

    def release(self, address: str) -> None:
        """Discount a client that has disconnected."""
        key = _counted(address)
        self._counts[key] -= 1
        if self._counts[key] <= 0:
            del self._counts[key]


def check_framing(method: str, has_chunks: bool, header: Callable[[str], Sequence[str]]) -> None:
    """Refuse requests that a proxy could frame differently (request smuggling).

    `has_chunks` is whether the request's HTTP version has chunked coding: 1.1 and later do. `header`
    returns the values of a header.
    Raises RequestError: it is ambiguous where the request ends."""
    codings = [one.lower() for one in header("Transfer-Encoding")]
    wrong = ""
    if method == "CONNECT":
        wrong = "CONNECT is not supported: this is not a proxy"
    elif codings and not (has_chunks and codings == ["chunked"]):
        wrong = "Transfer-Encoding must be `chunked` alone, in HTTP/1.1"
    elif {one.lower() for one in header("Upgrade")} - {"h2c"} and (codings or {*header("Content-Length")} - {"0"}):
        wrong = "a request with an Upgrade header must not have a body"
    if wrong:
        raise invalid_field(wrong)


def shown(text: str) -> str:
    """Return a client's text, shortened and escaped, for use in a message."""
    return ascii(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def _host(authority: str) -> str | None:
    """Return the host of ``host[:port]`` in lower case; None if that is invalid."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found[2] or 0) > 65535:
        return None
    host = found[1].lower()
    if host.startswith("["):
        return host if _address(host[1:-1]) else None
    return host if _address(host) or _NAME.fullmatch(host) else None


def _normal(origin: str) -> str | None:
    """Return an origin in lower case and without its scheme's default port; None if it is invalid."""
    found = _ORIGIN.fullmatch(origin)
    if found is None or _host(found[2]) is None:
        return None
    scheme, authority = found[1], found[2].lower()
    return f"{scheme}://{authority.removesuffix(':' + _DEFAULT_PORTS[scheme])}"


def _address(text: str) -> Address | None:
    try:
        # Without the interface of a link-local address.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _counted(text: str) -> Address | None:
    """Return the address or network that a client counts for; None if that has no limit."""
    address = _address(text)
    if address is None or address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return IPv6Address(int(address) >> 64 << 64)
    return address
