"""The sockets at which an address is served, whatever its family."""

import asyncio
import errno
import socket
from collections.abc import Sequence


BACKLOG = 4096
"""Connections that may wait to be accepted: all clients may reconnect at once."""
_PORTS_TRIED = 20
_Address = tuple[socket.AddressFamily, str, int]


async def listen(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Return non-blocking sockets that listen on every address of these hosts, all at one port; 0 is any that is free.

    `::` stands for all addresses of IPv4, too. Each address is served once, also if another host stands for it.
    Raises OSError: with the address that cannot be served as its `filename`."""
    addresses = await _addresses(hosts, port)
    for left in reversed(range(_PORTS_TRIED)):
        try:
            return _bind(addresses, port)
        except OSError as error:
            # The first one chose the port, and the same may be in use at another address.
            if port or error.errno != errno.EADDRINUSE or not left:
                raise
    raise AssertionError("the last try returns or raises")


def url(scheme: str, host: str, port: int | str) -> str:
    """Return where something is served; addresses of IPv6 get their brackets."""
    return f"{scheme}://{shown(host, port)}"


def shown(host: str, port: int | str) -> str:
    """Return an address as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _addresses(hosts: Sequence[str], port: int) -> list[_Address]:
    loop = asyncio.get_running_loop()
    found: dict[_Address, None] = {}
    for host in hosts:
        try:
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise OSError(error.errno, error.strerror, shown(host, port)) from error
        for family, _, _, _, address in infos:
            found[family, str(address[0]), address[3] if len(address) == 4 else 0] = None
    covering = [one for one in found if one[1] in {"0.0.0.0", "::"}]  # noqa: S104  # compared, not bound
    if any(one[1] == "::" for one in covering) and socket.has_dualstack_ipv6():
        return [one for one in covering if one[1] == "::"]
    return [one for one in found if one in covering or one[0] not in {other[0] for other in covering}]


def _bind(addresses: Sequence[_Address], port: int) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for family, host, scope in addresses:
            at = (host, port) if family == socket.AF_INET else (host, port, 0, scope)
            both = host == "::" and socket.has_dualstack_ipv6()
            try:
                one = socket.create_server(at, family=family, backlog=BACKLOG, dualstack_ipv6=both)
            except OSError as error:
                raise OSError(error.errno, error.strerror, shown(host, port)) from error
            one.setblocking(False)
            made.append(one)
            port = one.getsockname()[1]
    except BaseException:
        for one in made:
            one.close()
        raise
    return made
