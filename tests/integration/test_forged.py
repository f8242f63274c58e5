"""Every forged token in every place: all are refused with the same answer, and the log contains none of them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from tests.conftest import Connect, Launch
from tests.support.forged import KEY_IDS, forged
from tests.support.gateway import Gateway
from tests.support.issuer import Issuer, hs256, rs256
from tests.support.keyserver import KeyServer, has
from tests.support.sizes import full
from tests.support.tokens import bearer
from tests.support.ws import Client, address


API = "/api/v1/websocket"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
ADDRESSES = [
    ("GET", "/events?channels=metrics"),
    ("GET", f"{API}/channels"),
    ("GET", f"{API}/channels/metrics"),
    ("GET", f"{API}/channels/metrics/events"),
    ("GET", f"{API}/channels/metrics/presence"),
    ("GET", f"{API}/status"),
    ("GET", f"{API}/publishers"),
    ("GET", f"{API}/rejections"),
    ("GET", "/metrics"),
    ("POST", f"{API}/broadcast?channel=metrics"),
    ("DELETE", f"{API}/clients/somebody"),
    ("DELETE", f"{API}/users/somebody"),
]
HEADER_CHARS_MAX = 8_000
STEP = full(1, 4)
"""Each address gets every so-manieth forged token, and all addresses together get all of them."""
PIECE_CHARS_MIN = 20
"""What is shorter than this could stand in a log without having been a token's."""


@contextlib.asynccontextmanager
async def secret(folder: Path) -> AsyncIterator[tuple[Issuer, dict[str, str]]]:
    issuer = hs256(audience="gateway", issuer="us")
    yield issuer, issuer.settings(folder)


@contextlib.asynccontextmanager
async def keys_at_a_url(folder: Path) -> AsyncIterator[tuple[Issuer, dict[str, str]]]:
    issuer = rs256(audience="gateway", issuer="us", kid="ours")
    async with KeyServer(has([issuer.jwk])) as server:
        named = {"auth.jwks_url": server.url, "auth.insecure_jwks": "true"}
        kept = {"auth.audience", "auth.issuer", "auth.leeway_seconds"}
        settings = issuer.settings(folder)
        yield issuer, {**{name: settings[name] for name in kept}, **named}


@pytest.fixture(params=[secret, keys_at_a_url], ids=["HS256", "RS256-JWKS"])
async def trust(
    request: pytest.FixtureRequest, launch: Launch, tmp_path: Path
) -> AsyncIterator[tuple[Issuer, Gateway]]:
    """An issuer, and a gateway that takes its tokens and logs whatever it can."""
    async with request.param(tmp_path) as (issuer, settings):
        more = {"auth.query_token": "true", "clients.messages_burst": 10_000, "logging.level": "debug"}
        gateway = await launch(settings={**settings, **more})
        gateway.token = issuer.token()  # the test's own questions
        await gateway.broadcast({"event_type": "x", "data": {}}, "?channel=metrics")
        gateway.token = ""
        yield issuer, gateway


async def test_no_forged_token_is_accepted_anywhere(trust: tuple[Issuer, Gateway], connect: Connect) -> None:
    issuer, gateway = trust
    good, tokens = issuer.token(), forged(issuer)

    names = sorted(tokens)
    for nth, (method, path) in enumerate([*ADDRESSES, ("GET", "/ws")]):
        some = {name: tokens[name] for name in names[nth % STEP :: STEP]}
        await at_an_address(gateway, method, path, good, some)
    await in_a_message(await connect(to=gateway), good, tokens)
    await after_the_upgrade(gateway, "protocol", good, filter(fits_a_protocol, tokens.values()))
    await after_the_upgrade(gateway, "query", good, filter(fits_a_query, tokens.values()))

    await nothing_is_logged_of(gateway, [good, *tokens.values()])


async def at_an_address(gateway: Gateway, method: str, path: str, good: str, tokens: dict[str, str]) -> None:
    """Bring tokens in the header, and with the address; a refusal says nothing of which, or why."""
    heard: dict[str, tuple[str, str]] = {}
    async with aiohttp.ClientSession(gateway.url) as http:

        async def ask(token: str, *, query: bool = False) -> tuple[int, str]:
            mark = "&" if "?" in path else "?"
            to = f"{path}{mark}token={quoted(token)}" if query else path
            headers = {**(UPGRADE if path == "/ws" else {}), **({} if query else bearer(token))}
            data = b'{"event_type":"x","data":{}}' if method == "POST" else None
            async with http.request(method, URL(to, encoded=True), headers=headers, data=data) as answer:
                if answer.status < 400:
                    return answer.status, ""  # a stream would not end
                shown = sorted((k, v) for k, v in answer.headers.items() if k != "Date")
                return answer.status, f"{shown} {await answer.text()}"

        for name, token in tokens.items():
            if fits_a_header(token):
                heard.setdefault(str(await ask(token)), (name, "header"))
            if fits_a_query(token) and path != "/ws":
                heard.setdefault(str(await ask(token, query=True)), (name, "query"))

        assert 1 == len(heard), f"{path}: not the same answer to all: {heard}"
        assert next(iter(heard)).startswith("(401,"), heard
        taken = {404} if "/clients/" in path else {101, 200}  # there is no such client
        assert (await ask(good))[0] in taken, "a good token is taken there"


async def in_a_message(client: Client, good: str, tokens: dict[str, str]) -> None:
    """Bring one token after another on one connection, which stays nobody's until a good one comes."""
    heard = set()
    for token in filter(is_text, tokens.values()):
        heard.add(json.dumps(await client.refused({"type": "auth", "token": token})))
    denied = (await client.subscribe("connections"))["denied"]
    taken = await client.ask({"type": "auth", "token": good}, "authenticated")

    assert 1 == len(heard), heard
    assert "unauthorized" == json.loads(heard.pop())["code"]
    assert ["connections"] == [one["channel"] for one in denied]
    assert "alice" == taken["user_id"]


async def after_the_upgrade(gateway: Gateway, place: str, good: str, tokens: Iterable[str]) -> None:
    """Connect as a browser does, which sees no status: the socket opens, says so, and closes."""

    async def say(http: aiohttp.ClientSession, token: str) -> str:
        url = address(gateway.url, {})
        if place == "query":
            url += f"?token={quoted(token)}"
        protocols = ["neurograph", f"bearer.{token}"] if place == "protocol" else []
        to = URL(url, encoded=True)
        async with http.ws_connect(to, protocols=protocols) as ws:
            first = await ws.receive_json()
            if first["type"] == "connected":
                return f"welcome {first['user_id']}"
            closing = await ws.receive_json()
            end = await ws.receive()
            return str((first, closing, end.type, ws.close_code, end.extra, ws.protocol))

    async with aiohttp.ClientSession() as http:
        heard = {await say(http, token) for token in tokens}
        assert "welcome alice" == await say(http, good)

    assert 1 == len(heard), heard
    assert "unauthorized" in (said := heard.pop())
    assert "4501" in said


def is_text(token: str) -> bool:
    """Whether there is a way to write it in JSON or in an address."""
    return "\ud800" not in token


def fits_a_query(token: str) -> bool:
    return len(quoted(token)) < HEADER_CHARS_MAX


def fits_a_header(token: str) -> bool:
    """Whether a header can carry it; white space around it would not be the token's."""
    return (
        is_text(token)
        and token.strip() == token
        and len(token) < HEADER_CHARS_MAX
        and not {"\r", "\n", "\0"}.intersection(token)
    )


def fits_a_protocol(token: str) -> bool:
    """The same for a list of subprotocols, where commas and spaces separate."""
    return fits_a_header(token) and not {",", " "}.intersection(token)


def quoted(token: str) -> str:
    return quote(token, safe="", errors="surrogatepass")


async def nothing_is_logged_of(gateway: Gateway, tokens: Iterable[str]) -> None:
    """Neither a part of a token nor the key id that it names, as it is or decoded."""
    await gateway.logged("token_refused")
    log = "\n".join(gateway.lines)
    pieces = {piece for token in tokens for piece in token.split(".") if len(piece) >= PIECE_CHARS_MIN}
    pieces |= set(map(decoded, pieces))
    pieces |= {kid for kid in KEY_IDS.values() if len(kid) >= len("no-such-key")}

    assert [] == [piece for piece in pieces if piece in log]


def decoded(piece: str) -> str:
    """What a part of a token says, or the part itself where it says nothing."""
    try:
        return base64.urlsafe_b64decode(piece.encode(errors="replace") + b"===").decode(errors="replace")
    except binascii.Error:
        return piece
