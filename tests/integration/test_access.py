"""Whose pages may use the gateway, by which names it is called, and which heads of requests it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.conftest import Launch, OpenRaw
from tests.support.gateway import Gateway
from tests.support.request import ask
from tests.support.waiting import DEADLINE_SECONDS, scaled


LISTED = "https://dash.example"
NAMED = "gateway.example"
ADDRESSES = {"websocket": "/ws", "sse": "/events?channels=metrics", "rest": "/api/v1/websocket/channels"}
WELCOME = {"websocket": 101, "sse": 200, "rest": 200}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Gateway]:
    """A gateway on loopback with one foreign origin and one name."""
    with Gateway(settings={"allowed_origins": LISTED, "allowed_hosts": NAMED}) as gateway:
        yield gateway


# -- origins --------------------------------------------------------------------------------------

STRANGE_ORIGINS = [
    "https://evil.example",
    "http://dash.example",
    "https://sub.dash.example",
    "https://dash.example.evil.example",
    "https://evil-dash.example",
    "https://dash.examples",
    "https://dash.exampl",
    "https://dash.example:8443",
    "https://dash.example:80",
    "https://dash.example:0443",
    "https://dash.example:443x",
    "https://dash.example:",
    "https://dash.example.",
    "https://dash.example/",
    "https://dash.example/path",
    "https://dash.example?",
    "https://dash.example#",
    "https://dash.example@evil.example",
    "https://evil.example@dash.example",
    "https://user:word@dash.example",
    "https://dash.example%2eevil.example",
    "https://dash%2eexample",
    "https://dash.example\\.evil.example",
    "https:dash.example",
    "https:/dash.example",
    "https:///dash.example",
    "HTTPS://dash.example",
    "wss://dash.example",
    "ftp://dash.example",
    "file://",
    "//dash.example",
    "dash.example",
    "null",
    "NULL",
    "",
    "*",
    "https://*.example",
    "https://dash.example, https://evil.example",
    "https://dash.example https://dash.example",
    "https://dash.example\t.evil",
    "https://dаsh.example",  # noqa: RUF001  # with a Cyrillic letter
    "https://xn--dsh-5cd.example",
    "chrome-extension://abcdefghijklmnop",
    "http://127.0.0.1",
    "https://127.0.0.1:{port}",
    "http://127.0.0.1:{other}",
    "http://127.0.0.2:{port}",
    "http://127.1:{port}",
    "http://localhost:{port}",
    "http://127.0.0.1.:{port}",
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@evil.example",
    "http://[::1]:{port}",
    "http://evil.example:{port}",
    "x" * 8000,
]


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.parametrize("strange", STRANGE_ORIGINS, ids=range(len(STRANGE_ORIGINS)))
async def test_a_page_of_another_origin_is_refused(guarded: Gateway, kind: str, strange: str) -> None:
    """403 before the upgrade, with the setting that would let it in; and no header that lets it read."""
    origin = strange.format(port=guarded.port, other=guarded.port + 1)
    said = await ask(guarded, ADDRESSES[kind], f"Origin: {origin}", host=f"127.0.0.1:{guarded.port}")

    assert said.status == 403
    assert "`allowed_origins`" in said.text
    assert "access-control-allow-origin" not in said.headers


KNOWN_ORIGINS = [LISTED, "https://DASH.Example", "https://dash.example:443", "http://127.0.0.1:{port}"]


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.parametrize("known", KNOWN_ORIGINS)
async def test_a_page_of_an_allowed_origin_is_served(guarded: Gateway, kind: str, known: str) -> None:
    """Those that are listed, and the gateway's own; and the page may read what it gets."""
    origin = known.format(port=guarded.port)
    said = await ask(guarded, ADDRESSES[kind], f"Origin: {origin}", host=f"127.0.0.1:{guarded.port}")

    assert said.status == WELCOME[kind]
    assert "access-control-allow-credentials" not in said.headers
    if kind != "websocket":  # CORS (Fetch standard) knows nothing of those
        assert said.headers["access-control-allow-origin"] == origin
        assert "Origin" in said.headers["vary"]


@pytest.mark.parametrize("kind", ADDRESSES)
async def test_two_origins_are_none(guarded: Gateway, kind: str) -> None:
    said = await ask(guarded, ADDRESSES[kind], f"Origin: {LISTED}", f"Origin: {LISTED}")

    assert said.status == 403


async def test_the_own_origin_is_that_of_the_host_in_the_request(guarded: Gateway) -> None:
    """A page from http://localhost:8000 may speak to localhost:8000, not to 127.0.0.1:8000."""
    origin = f"Origin: http://localhost:{guarded.port}"
    same = await ask(guarded, "/ws", origin, host=f"LocalHost:{guarded.port}")
    other = await ask(guarded, "/ws", origin, host=f"127.0.0.1:{guarded.port}")
    by_port = await ask(guarded, "/ws", "Origin: http://localhost", host="localhost:80")

    assert [same.status, other.status, by_port.status] == [101, 403, 101]


async def test_a_client_that_is_no_page_needs_no_origin(guarded: Gateway) -> None:
    for kind, address in ADDRESSES.items():
        assert (await ask(guarded, address)).status == WELCOME[kind]


async def test_the_origin_null_is_allowed_only_by_name_or_with_all(launch: Launch) -> None:
    """Sandboxed pages and files all have this origin."""
    by_name = await launch(settings={"allowed_origins": "null"})
    everybody = await launch(settings={"allowed_origins": "*"})

    assert (await ask(by_name, "/ws", "Origin: null")).status == 101
    assert (await ask(by_name, "/ws", "Origin: https://evil.example")).status == 403
    assert (await ask(everybody, "/ws", "Origin: null")).status == 101
    answer = await ask(everybody, "/healthz", "Origin: https://evil.example")
    assert answer.headers["access-control-allow-origin"] == "https://evil.example"


async def test_a_refused_origin_is_shown_short_and_harmless(guarded: Gateway) -> None:
    """It is a stranger's text, and ends in an answer and in a log."""
    said = await ask(guarded, "/healthz", "Origin: https://\u202e" + "x" * 4000)

    assert said.status == 403
    assert len(said.text) < 500
    assert "\u202e" not in said.text
    assert all(len(record["reason"]) < 300 for record in await guarded.logged("request_refused"))


async def test_refusals_are_counted(guarded: Gateway) -> None:
    before = await guarded.metric("neurograph_gateway_connections_refused_total", reason="origin")
    await ask(guarded, "/ws", "Origin: https://evil.example")
    await ask(guarded, "/ws", host="evil.example")

    assert await guarded.metric("neurograph_gateway_connections_refused_total", reason="origin") == before + 1
    assert await guarded.metric("neurograph_gateway_connections_refused_total", reason="host") >= 1


# -- what a page may read and ask -----------------------------------------------------------------


async def test_the_answer_to_a_preflight_says_what_the_address_serves(guarded: Gateway) -> None:
    """So that a dashboard may send a token, and broadcast."""
    wishes = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"]
    said = await ask(guarded, "/api/v1/websocket/broadcast", f"Origin: {LISTED}", *wishes, method="OPTIONS")

    assert said.status == 204
    assert said.headers["access-control-allow-origin"] == LISTED
    assert said.headers["access-control-allow-methods"] == "POST"
    assert said.headers["access-control-allow-headers"] == ("Authorization, Content-Type, Last-Event-ID")
    assert said.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in said.headers
    rest = await ask(guarded, ADDRESSES["rest"], f"Origin: {LISTED}", *wishes, method="OPTIONS")
    assert rest.headers["access-control-allow-methods"] == "GET, HEAD"


async def test_a_preflight_of_another_origin_is_refused(guarded: Gateway) -> None:
    said = await ask(
        guarded,
        "/api/v1/websocket/broadcast",
        "Origin: https://evil.example",
        "Access-Control-Request-Method: POST",
        method="OPTIONS",
    )

    assert said.status == 403
    assert not [name for name in said.headers if name.startswith("access-control")]


async def test_options_without_a_page_is_no_preflight(guarded: Gateway) -> None:
    said = await ask(guarded, ADDRESSES["rest"], method="OPTIONS")

    assert said.status == 405


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/metrics", 405),
        ("GET", "/api/v1/websocket/channels/nobody.knows", 404),
        ("GET", "/events", 400),
    ],
)
async def test_a_page_can_read_its_errors(guarded: Gateway, method: str, target: str, status: int) -> None:
    said = await ask(guarded, target, f"Origin: {LISTED}", method=method)

    assert said.status == status
    assert said.headers["access-control-allow-origin"] == LISTED


async def test_caches_keep_the_answers_to_pages_apart(guarded: Gateway) -> None:
    """Also the answer to who is no page: it lacks the header that a page needs."""
    assert "Origin" in (await ask(guarded, "/healthz")).headers["vary"]


# -- hosts ----------------------------------------------------------------------------------------

NO_HOSTS = [
    "",
    " ",
    ":8000",
    "@",
    "user@localhost",
    "localhost:8000@evil.example",
    "localhost:",
    "localhost:80000",
    "localhost:8000:8000",
    "localhost:-1",
    "localhost:+80",
    "localhost:http",
    "localhost/",
    "localhost/evil.example",
    "localhost?x",
    "localhost#x",
    "http://localhost",
    "localhost, evil.example",
    "localhost evil.example",
    "localhost\tevil.example",
    "localhost\\.evil.example",
    "localhost%00",
    "local%68ost",
    "-localhost",
    "localhost..",
    ".localhost",
    "a..example",
    "[::1",
    "::1",
    "[::1]x",
    "[::1%25lo]",
    "[localhost]",
    "127.1",
    "127.0.0.1.",
    "0x7f000001",
    "0x7f.1",
    "2130706433",
    "127.0.0.01",
    "gаteway.example",  # noqa: RUF001  # with a Cyrillic letter
    "gateway.example\x7f",
    "*",
    "a" * 64 + ".example",
    "a." * 200 + "example",
]
STRANGE_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "sub.gateway.example",
    "gateway.example.evil.example",
    "evil-gateway.example",
    "gateway.examples",
    "gateway.exampl",
    "gateway.example.",
    "xn--gteway-4nf.example",
    "localhost.",
    "localhost.evil.example",
    "sub.localhost",
    "localhost.localdomain",
    "127.0.0.1.evil.example",
    "127-0-0-1.evil.example",
    "null",
    "_",
]


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.parametrize("host", NO_HOSTS, ids=range(len(NO_HOSTS)))
async def test_what_is_no_host_is_refused(guarded: Gateway, kind: str, host: str) -> None:
    assert (await ask(guarded, ADDRESSES[kind], host=host)).status == 400


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.parametrize("host", STRANGE_HOSTS)
async def test_a_name_of_somebody_else_is_refused(guarded: Gateway, kind: str, host: str) -> None:
    """A page whose name was rebound to this address still sends its own name."""
    said = await ask(guarded, ADDRESSES[kind], host=host.format(port=guarded.port))

    assert said.status == 421
    assert "`allowed_hosts`" in said.text


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", NAMED, "Gateway.Example:443", "127.0.0.1:80", "10.0.0.1", "[::1]:9"]
)
async def test_a_name_of_its_own_and_every_address_is_served(guarded: Gateway, kind: str, host: str) -> None:
    """An address cannot be rebound; and what port it is reached by, only who forwards it knows."""
    assert (await ask(guarded, ADDRESSES[kind], host=host)).status == WELCOME[kind]


@pytest.mark.parametrize("kind", ADDRESSES)
async def test_a_request_without_a_host_or_with_two_is_refused(guarded: Gateway, kind: str) -> None:
    none = await ask(guarded, ADDRESSES[kind], host=None)
    old = await ask(guarded, ADDRESSES[kind], host=None, version="1.0")
    two = await ask(guarded, ADDRESSES[kind], "Host: localhost", host="localhost")

    assert [none.status, old.status, two.status] == [400, 400, 400]


@pytest.mark.parametrize("path", ADDRESSES.values(), ids=ADDRESSES)
async def test_the_request_line_and_the_host_must_agree(guarded: Gateway, path: str) -> None:
    """Where they differ, one in front of us may have looked at the other one."""
    for target, host, status in [
        ("http://evil.example", "localhost", 400),
        ("http://localhost", "evil.example", 400),
        ("http://evil.example", "evil.example", 421),
        ("http://user@localhost", "localhost", 400),
        ("http://localhost:80", "localhost", 400),
        ("http://localhost.", "localhost", 400),
    ]:
        assert (await ask(guarded, target + path, host=host)).status == status, (target, host)
    assert (await ask(guarded, f"http://LocalHost{path}", host="localhost")).status in {101, 200}


async def test_without_names_loopback_is_only_called_localhost(gateway: Gateway) -> None:
    """With its defaults the gateway is nobody else's: defence against DNS rebinding."""
    assert (await ask(gateway, "/ws", host="gateway.example")).status == 421
    assert (await ask(gateway, "/ws", host="localhost")).status == 101


async def test_beyond_loopback_any_name_is_served_unless_some_are_given(launch: Launch) -> None:
    """Who serves a network knows its names, or leaves that to what is in front."""
    public = {"host": "0.0.0.0", "insecure_allow_remote": "true"}
    any_name = await launch(settings=public)
    named = await launch(settings={**public, "allowed_hosts": NAMED})

    assert (await ask(any_name, "/ws", host="whatever.example")).status == 101
    assert (await ask(any_name, "/ws", host="what ever")).status == 400
    assert (await ask(named, "/ws", host="whatever.example")).status == 421
    assert (await ask(named, "/ws", host=NAMED)).status == 101


# -- heads of requests ----------------------------------------------------------------------------

LONG_HEADS = {
    "one long header": ["X-A: " + "a" * 9000],
    "many headers": [f"X-{n}: a" for n in range(200)],
    "all together": [f"X-{n}: " + "a" * 6000 for n in range(10)],
}


@pytest.mark.parametrize("fields", LONG_HEADS.values(), ids=LONG_HEADS)
async def test_a_head_that_is_too_long_is_answered_with_431(gateway: Gateway, fields: list[str]) -> None:
    said = await ask(gateway, "/healthz", *fields)

    assert said.status == 431
    assert "32768 bytes" in said.text


async def test_a_head_without_an_end_is_cut_off(gateway: Gateway, raw: OpenRaw) -> None:
    """Not only when it is whole, or it would be kept until then."""
    peer = await raw(to=gateway, upgrade=False)
    await peer.send_bytes(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
    for n in range(8):
        await peer.send_bytes(b"X-%d: %b\r\n" % (n, b"a" * 5000))

    assert b" 431 " in (await peer.read_to_end()).splitlines()[0]


async def test_each_head_of_a_connection_has_the_whole_limit(gateway: Gateway) -> None:
    """And no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    begin = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    fields = [b"X-%d: %b\r\n" % (n, b"a" * 7000) for n in range(6)]
    async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
        for _ in range(3):
            writer.write(begin + b"".join(fields[:4]) + b"\r\n")
            assert b" 200 " in await reader.readuntil(b'{"status":"ok"}')
        writer.write(begin + b"".join(fields))
        answer = await reader.read()
    writer.close()

    assert b" 431 " in answer.splitlines()[0]


async def test_many_requests_at_once_are_answered_in_order(gateway: Gateway, raw: OpenRaw) -> None:
    """More than are kept at a time."""
    peer = await raw(to=gateway, upgrade=False)
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    await peer.send_bytes(one * 499 + last)

    assert (await peer.read_to_end()).count(b"HTTP/1.1 200 ") == 500
