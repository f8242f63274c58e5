"""Where a cluster's Redis is, as `cluster.url` says it."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit


URL_FORMS = "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or redis+sentinel://HOST[:PORT],HOST[:PORT]/SERVICE"

_SCHEMES = {
    "redis": (False, False),
    "valkey": (False, False),
    "rediss": (True, False),
    "valkeys": (True, False),
    "redis+sentinel": (False, True),
    "valkey+sentinel": (False, True),
    "rediss+sentinel": (True, True),
    "valkeys+sentinel": (True, True),
}
"""Whether a scheme means TLS, and whether Sentinel."""
_PORT, _SENTINEL_PORT = 6379, 26379
_QUERY = ("sentinel_user", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Address:
    """One server, or the Sentinels that know which server of a `service` is the primary one."""

    servers: tuple[tuple[str, int], ...]
    service: str = ""
    """Empty without Sentinel."""
    database: int = 0
    tls: bool = False
    user: str = ""
    password: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""

    def __str__(self) -> str:
        """The address without secrets."""
        servers = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.servers)
        return f"{servers}/{self.service}" if self.service else servers

    __repr__ = __str__


def parse_url(url: str) -> Address:
    """Read `cluster.url`. Raises ValueError: it is not valid; the text does not contain it."""
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"does not begin with one of {', '.join(f'{one}://' for one in _SCHEMES)}")
    tls, sentinel = _SCHEMES[parts.scheme]
    unknown = [name for name in query if name not in _QUERY]
    if unknown or (query and not sentinel):
        raise ValueError("has parameters after `?` that are not known")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    path = parts.path.strip("/").split("/")
    service = path.pop(0) if sentinel else ""
    database = "/".join(path) or "0"
    if sentinel and not service:
        raise ValueError("names no service of Sentinel")
    if not (database.isascii() and database.isdigit()):
        raise ValueError("has a database that is not a number")
    servers = hosts.split(",")
    if len(servers) > 1 and not sentinel:
        raise ValueError("has several servers, which only Sentinel may have")
    port = _SENTINEL_PORT if sentinel else _PORT
    return Address(
        servers=tuple(_server(one, port) for one in servers),
        service=unquote(service),
        database=int(database),
        tls=tls,
        user=unquote(user),
        password=unquote(password),
        sentinel_user=query.get("sentinel_user", ""),
        sentinel_password=query.get("sentinel_password", ""),
    )


def has_password(url: str) -> bool:
    """Tell whether a valid `cluster.url`, or an empty one, contains a password."""
    address = parse_url(url) if url else None
    return address is not None and bool(address.password or address.sentinel_password)


def _server(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port or port
    except ValueError:
        raise ValueError("has a port that is not a number from 1 to 65535") from None
    if not host:
        raise ValueError("names no host")
    return host, port
