"""Where a client is, as trusted proxies say, and how many clients one address may have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Connect, Launch, OpenRaw
from tests.support.gateway import Gateway
from tests.support.request import ask
from tests.support.waiting import eventually


PROXIES = {"trusted_proxies": "127.0.0.0/8,10.0.0.0/8,2001:db8:1::/48"}

FORWARDED = {
    "198.51.100.7": "198.51.100.7",
    "203.0.113.9, 198.51.100.7": "198.51.100.7",
    "1.1.1.1, 203.0.113.9, 10.0.0.3, 10.0.0.2": "203.0.113.9",
    " 203.0.113.9 ,10.1.1.1": "203.0.113.9",
    "2001:db8:2::5": "2001:db8:2::5",
    "2001:DB8:2:0::5, 2001:db8:1::9": "2001:db8:2::5",
    "::ffff:198.51.100.7": "198.51.100.7",
    "10.0.0.3, 10.0.0.2": "10.0.0.3",
    "garbage, 198.51.100.7": "198.51.100.7",
    "198.51.100.7:80": "198.51.100.7",
    "[2001:db8:2::5]:443, 10.0.0.2:80": "2001:db8:2::5",
    # What is malformed says nothing:
    "198.51.100.7, garbage": "127.0.0.1",
    "198.51.100.7,": "127.0.0.1",
    "": "127.0.0.1",
    "unknown": "127.0.0.1",
    "198.51.100": "127.0.0.1",
    "0x7f.1": "127.0.0.1",
    "127.0.0.1\t198.51.100.7": "127.0.0.1",
}


@pytest.fixture(scope="module")
def behind() -> Iterator[Gateway]:
    """A gateway that trusts a proxy on this machine."""
    with Gateway(settings={**PROXIES, "clients.connections_per_address_max": 3}) as gateway:
        yield gateway


async def _addresses(gateway: Gateway) -> list[str]:
    return [client["address"] for client in (await gateway.status())["clients"]]


@pytest.mark.parametrize("said", FORWARDED, ids=range(len(FORWARDED)))
async def test_a_trusted_proxy_says_where_a_client_is(behind: Gateway, raw: OpenRaw, said: str) -> None:
    """The nearest address that is no proxy's: whatever stands before it may be made up."""
    peer = await raw(to=behind, upgrade=False)
    status, _ = await peer.upgrade(X_Forwarded_For=said)
    await peer.expect("connected")

    assert status == 101
    assert await _addresses(behind) == [FORWARDED[said]]
    peer.close()
    await eventually(lambda: _nobody(behind))


async def _nobody(gateway: Gateway) -> bool:
    return not await _addresses(gateway)


async def test_nobody_else_says_where_a_client_is(launch: Launch, raw: OpenRaw) -> None:
    """Without trusted proxies, and from one that is none of them, the header is anybody's."""
    for settings in ({}, {"trusted_proxies": "10.0.0.0/8"}):
        gateway = await launch(settings=settings)
        peer = await raw(to=gateway, upgrade=False)
        await peer.upgrade(X_Forwarded_For="198.51.100.7", X_Forwarded_Proto="https")
        await peer.expect("connected")
        origin = await ask(gateway, "/ws", "Origin: https://localhost", "X-Forwarded-Proto: https", host="localhost")

        assert await _addresses(gateway) == ["127.0.0.1"]
        assert origin.status == 403


@pytest.mark.parametrize(
    ("forwarded", "origin", "status"),
    [
        ("https", "https://localhost", 101),
        ("HTTPS", "https://localhost:443", 101),
        ("wss", "https://localhost", 101),
        ("http, https", "https://localhost", 101),
        ("https, http", "https://localhost", 403),
        ("https", "http://localhost", 403),
        ("http", "https://localhost", 403),
        ("gopher", "http://localhost", 101),
        ("gopher", "gopher://localhost", 403),
    ],
)
async def test_a_trusted_proxy_says_how_a_client_came(
    behind: Gateway, forwarded: str, origin: str, status: int
) -> None:
    """The gateway's own origin is https where a proxy in front speaks TLS."""
    said = await ask(behind, "/ws", f"X-Forwarded-Proto: {forwarded}", f"Origin: {origin}", host="localhost")

    assert said.status == status


# -- how many from one address --------------------------------------------------------------------


async def _arrive(gateway: Gateway, raw: OpenRaw, address: str) -> int | None:
    """Connect from an address; the code that it is closed with, None if it stays open."""
    peer = await raw(to=gateway, upgrade=False)
    status, _ = await peer.upgrade(X_Forwarded_For=address)
    assert status == 101
    first = await peer.read_message()
    return None if first["type"] == "connected" else int(first["code"])


async def test_an_address_has_so_many_clients_and_no_more(launch: Launch, raw: OpenRaw) -> None:
    """The connection is opened, then closed with 1013. Other addresses are not affected; a client that leaves makes room."""
    gateway = await launch(settings={**PROXIES, "clients.connections_per_address_max": 3})
    codes = [await _arrive(gateway, raw, "198.51.100.7") for _ in range(5)]
    other = await _arrive(gateway, raw, "198.51.100.8")
    stream = await gateway.request("GET", "/events?channels=metrics", headers={"X-Forwarded-For": "198.51.100.7"})

    assert codes == [None, None, None, 1013, 1013]
    assert other is None
    assert "event: closing" in stream.text
    assert "1013" in stream.text
    assert await gateway.metric("neurograph_gateway_connections_refused_total", reason="address") == 3


async def test_a_place_is_given_back(launch: Launch, raw: OpenRaw) -> None:
    gateway = await launch(settings={**PROXIES, "clients.connections_per_address_max": 1})
    peer = await raw(to=gateway, upgrade=False)
    await peer.upgrade(X_Forwarded_For="198.51.100.7")
    await peer.expect("connected")
    assert await _arrive(gateway, raw, "198.51.100.7") == 1013
    peer.close()

    async def welcome() -> bool:
        return await _arrive(gateway, raw, "198.51.100.7") is None

    await eventually(welcome)


async def test_an_ipv6_network_counts_as_one_address(launch: Launch, raw: OpenRaw) -> None:
    """One customer has a whole /64 to pick addresses from."""
    gateway = await launch(settings={**PROXIES, "clients.connections_per_address_max": 2})
    codes = [await _arrive(gateway, raw, f"2001:db8:2::{n}") for n in range(1, 5)]

    assert codes == [None, None, 1013, 1013]
    assert await _arrive(gateway, raw, "2001:db8:2:1::1") is None


async def test_clients_of_this_machine_are_not_counted(launch: Launch, connect: Connect) -> None:
    """They all have one address."""
    gateway = await launch(settings={"clients.connections_per_address_max": 1})
    for _ in range(3):
        await connect(to=gateway)

    assert (await gateway.status())["connections"] == 3
