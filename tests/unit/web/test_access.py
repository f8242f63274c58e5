"""Which requests are answered: whatever health checkers send, and nothing that a foreign page sends in secret."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gateway.auth import verifier
from gateway.config.model import Auth, Clients, Config
from gateway.core.protocol.errors import RequestError
from gateway.web.access import AccessPolicy
from tests.support.tokens import SECRET, bearer, token
from tests.support.waiting import eventually
from tests.unit.web.conftest import API, Edge, MakeEdge, MakeSite, Site


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"


async def head_of(edge: Edge, request: str, *, until: bytes = b"\r\n\r\n") -> str:
    """Send a request as it is; what comes back, up to the end of the head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request.encode())
    head = await reader.readuntil(until)
    writer.close()
    return head.decode()


def status(head: str) -> int:
    return int(head.split()[1])


# -- pages of other origins -------------------------------------------------------------------------

IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("site_", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/events?channels=a", f"{API}/status", f"{API}/broadcast", "/nowhere"]
)
async def test_an_image_of_a_foreign_page_is_refused(site: Site, path: str, site_: str) -> None:
    """Browsers send it without an Origin header; the gateway would do the work, and its time says something."""
    answer = await site.get(path, headers={**IMAGE, "Sec-Fetch-Site": site_})

    assert (answer.status, answer.json["code"]) == (403, "forbidden_origin")


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/metrics", LINK, 200),
        ("/events?channels=a", LINK, 403),
        ("/metrics", {**LINK, "Sec-Fetch-Dest": "iframe"}, 403),
        ("/metrics", {**IMAGE, "Sec-Fetch-Site": "same-origin"}, 200),
        ("/metrics", {**LINK, "Sec-Fetch-Site": "none"}, 200),
        ("/healthz", IMAGE, 200),
    ],
)
async def test_links_the_gateways_own_pages_and_health_are_served(
    site: Site, path: str, headers: dict[str, str], expected: int
) -> None:
    assert (await site.get(path, headers=headers)).status == expected


async def test_images_are_served_if_all_origins_are_allowed(make_site: MakeSite) -> None:
    site = await make_site(Config(allowed_origins=("*",)))

    assert (await site.get("/metrics", headers=IMAGE)).status == 200


# -- tokens ------------------------------------------------------------------------------------------


@pytest.fixture
async def guarded(make_edge: MakeEdge) -> Edge:
    auth = Auth(secret=SECRET)
    return await make_edge(Config(auth=auth), verifier(auth))


async def test_two_authorization_headers_are_refused(guarded: Edge) -> None:
    lines = "".join(f"Authorization: {bearer(token(user=user))['Authorization']}\r\n" for user in ("ada", "bob"))
    head = await head_of(guarded, f"GET {API}/channels HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")

    assert status(head) == 400


@pytest.mark.parametrize(("other", "expected"), [("ada", 101), ("bob", 400)])
async def test_a_header_and_a_subprotocol_must_be_of_one_user(guarded: Edge, other: str, expected: int) -> None:
    lines = f"Authorization: {bearer(token(user='ada'))['Authorization']}\r\n"
    lines += f"Sec-WebSocket-Protocol: neurograph, bearer.{token(user=other)}\r\n"
    head = await head_of(guarded, f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}{KEY}{lines}\r\n")

    assert status(head) == expected


# -- health checkers, scrapers and other machines ------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("rest", ["HTTP/1.0", "HTTP/1.1\r\nHost: gateway.prod.svc", "HTTP/1.1\r\nHost: a b"])
async def test_health_is_answered_under_any_name_and_version(make_edge: MakeEdge, path: str, rest: str) -> None:
    """HAProxy's httpchk sends HTTP/1.0 without a host; Kubernetes and Consul send names of their own."""
    head = await head_of(await make_edge(), f"GET {path} {rest}\r\n\r\n")

    assert status(head) == 200


async def test_metrics_are_answered_by_a_services_name_to_who_has_a_token(guarded: Edge, make_edge: MakeEdge) -> None:
    """A page under a rebound name has no token; without authentication, the name is all that protects."""
    field = f"Authorization: {bearer(token('monitor'))['Authorization']}\r\n"
    scrape = "GET /metrics HTTP/1.1\r\nHost: gateway.prod.svc\r\n"

    assert status(await head_of(guarded, f"{scrape}{field}\r\n")) == 200
    assert status(await head_of(guarded, f"{scrape}\r\n")) == 401
    assert status(await head_of(await make_edge(), f"{scrape}\r\n")) == 421


async def test_an_offer_of_http_2_is_ignored_also_with_a_body(make_edge: MakeEdge) -> None:
    """Java's default client and `curl --http2` make it with every request. The connection is closed then, and the client
    knows: else it could send the next request on it."""
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    body = '{"everyone": true, "event": 1}'
    post = f"POST {API}/broadcast HTTP/1.1\r\nHost: localhost\r\n{offer}Content-Length: {len(body)}\r\n\r\n{body}"
    edge = await make_edge()

    head = await head_of(edge, post)
    assert status(head) == 200
    assert "\r\nConnection: close\r\n" in head
    assert status(await head_of(edge, post.replace("h2c", "tls/1.0"))) == 400


@pytest.mark.parametrize(
    ("path", "version", "keys", "expected"),
    [("/ws", "1.1", KEY, 101), ("/ws/", "1.1", KEY, 101), ("/ws", "1.0", KEY, 400), ("/ws", "1.1", KEY + KEY, 400)],
)
async def test_a_websocket_needs_one_key_and_a_version_that_has_upgrades(
    make_edge: MakeEdge, path: str, version: str, keys: str, expected: int
) -> None:
    head = await head_of(await make_edge(), f"GET {path} HTTP/{version}\r\nHost: localhost\r\n{UPGRADE}{keys}\r\n")

    assert status(head) == expected
    assert "\r\nServer: neurograph-gateway\r\n" in head


@pytest.mark.parametrize(("limit", "expected"), [(8_190, 431), (16_384, 200)])
async def test_how_large_a_header_may_be_is_a_setting(make_edge: MakeEdge, limit: int, expected: int) -> None:
    """Single sign-on in front of the gateway sends cookies of 12 KB."""
    edge = await make_edge(Config(clients=Clients(header_bytes_max=limit)))
    head = await head_of(edge, f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nCookie: {'x' * 12_000}\r\n\r\n")

    assert status(head) == expected


# -- proxies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.1:51234", "203.0.113.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("203.0.113.1:51234, 10.0.0.2:80", "203.0.113.1"),
        ("203.0.113.1:", "10.0.0.1"),
        ("2001:db8::1:443x", "10.0.0.1"),
    ],
)
def test_forwarded_addresses_may_have_ports(forwarded: str, address: str) -> None:
    policy = AccessPolicy(Config(trusted_proxies=("10.0.0.0/8",)))

    assert policy.caller("10.0.0.1", "http", [forwarded], []).address == address


def test_requests_may_name_each_host_that_is_served() -> None:
    policy = AccessPolicy(Config(host=("127.0.0.1", "localhost", "ip6-localhost"), allowed_hosts=("gateway.example",)))

    assert "ip6-localhost:80" == policy.check_host(["IP6-localhost:80"], None)
    with pytest.raises(RequestError):
        policy.check_host(["foreign.example"], None)


def test_names_are_open_if_one_host_is_not_this_machine_alone() -> None:
    policy = AccessPolicy(Config(host=("127.0.0.1", "192.168.1.2")))

    assert "foreign.example" == policy.check_host(["foreign.example"], None)


def test_what_a_proxy_sends_and_is_not_understood_is_logged_once() -> None:
    policy = AccessPolicy(Config(trusted_proxies=("10.0.0.0/8",)))
    with capture_logs() as logs:
        for text in ("unknown", "_hidden", "x"):
            policy.caller("10.0.0.1", "http", [text], [])

    assert [(one["event"], one["value"]) for one in logs] == [("proxy_header_ignored", "'unknown'")]


@pytest.mark.parametrize(
    ("peer", "given", "prefix"),
    [
        ("10.0.0.1", ["/gw/"], "/gw"),
        ("10.0.0.1", ["/a/b"], "/a/b"),
        ("10.0.0.1", ["/forged", "/gw"], "/gw"),
        ("10.0.0.1", ["//evil.example"], ""),
        ("10.0.0.1", ["/<script>"], ""),
        ("198.51.100.1", ["/gw"], ""),
    ],
)
def test_a_trusted_proxy_says_behind_which_path_the_gateway_is(peer: str, given: list[str], prefix: str) -> None:
    policy = AccessPolicy(Config(trusted_proxies=("10.0.0.0/8",)))

    assert policy.prefix(peer, given) == prefix


async def test_a_connection_that_is_refused_was_opened_and_is_closed(guarded: Edge) -> None:
    """Those opened and not closed are those that are there."""
    lines = "Sec-WebSocket-Protocol: neurograph, bearer.rubbish\r\n"
    await head_of(guarded, f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}{KEY}{lines}\r\n")

    def counts() -> dict[str, float]:
        text = b"".join(guarded.context.metrics.render()[1]).decode()
        families = {family.name: family.samples for family in text_string_to_metric_families(text)}
        names = ("connections_opened", "connections_closed")
        return {name: sum(one.value for one in families[f"neurograph_gateway_{name}"]) for name in names}

    await eventually(lambda: counts() == {"connections_opened": 1, "connections_closed": 1})
