"""Sockets for all addresses of several hosts, at one port."""

import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from gateway.runtime.listening import listen, url


Listen = Callable[..., Awaitable[list[tuple[str, int]]]]


@pytest.fixture
async def listening() -> AsyncIterator[Listen]:
    """Listen, and return the sockets' addresses."""
    made: list[socket.socket] = []

    async def make(hosts: Sequence[str], port: int = 0) -> list[tuple[str, int]]:
        found = await listen(hosts, port)
        made.extend(found)
        return [one.getsockname()[:2] for one in found]

    yield make
    for one in made:
        one.close()


async def test_all_hosts_are_served_at_the_same_free_port(listening: Listen) -> None:
    (one, port), (other, same) = await listening(["127.0.0.1", "::1"])

    assert ("127.0.0.1", "::1") == (one, other)
    assert port == same > 0


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["127.0.0.1", "127.0.0.1"], ["127.0.0.1"]),
        (["::1", "0.0.0.0", "127.0.0.1"], ["::1", "0.0.0.0"]),
        (["127.0.0.1", "::", "0.0.0.0", "::1"], ["::"]),
    ],
)
async def test_an_address_that_another_one_stands_for_is_served_once(
    listening: Listen, hosts: list[str], expected: list[str]
) -> None:
    assert expected == [host for host, _ in await listening(hosts)]


async def test_an_address_in_use_is_named_and_nothing_stays_open(listening: Listen) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=r"\[::1\]:\d+") as caught:
            await listening(["127.0.0.2", "::1"], port)

    assert (errno.EADDRINUSE, f"[::1]:{port}") == (caught.value.errno, caught.value.filename)
    assert [("127.0.0.2", port)] == await listening(["127.0.0.2"], port)


async def test_a_host_without_an_address_is_named(listening: Listen) -> None:
    with pytest.raises(OSError, match=r"no-host\.invalid:80"):
        await listening(["127.0.0.2", "no-host.invalid"], 80)


def test_an_address_of_ipv6_has_brackets_in_a_url() -> None:
    assert ("http://127.0.0.1:80", "https://[::1]:443") == (url("http", "127.0.0.1", 80), url("https", "::1", 443))
