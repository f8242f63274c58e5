"""Every forged token at every door: none opens it, and all hear the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.conftest import Launch
from tests.support.forged import forged, is_printable
from tests.support.gateway import Gateway
from tests.support.issuer import Issuer, hs256, rs256
from tests.support.keyserver import KeyServer, has
from tests.support.tokens import bearer


API = "/api/v1/websocket"
NOTE = {"event_type": "note", "data": 1}
HEADER_BYTES_MAX = 8_000
"""Longer ones are refused by HTTP, and not by us."""

NOT_IN_A_LIST = set('(),/:;<=>?@[\\]{}"')
"""What a subprotocol's name may not have (RFC 6455, section 4.1)."""

Heard = Counter[str]


@pytest.fixture(params=["a secret", "a public key", "keys at a URL"])
async def stand(
    request: pytest.FixtureRequest, launch: Launch, tmp_path: Path
) -> Any:  # a generator of (gateway, issuer)
    issuer = {
        "a secret": hs256(audience="us"),
        "a public key": rs256(audience="us"),
        "keys at a URL": rs256(kid="ours", audience="us"),
    }[request.param]
    settings: dict[str, object] = {
        "auth.query_token": "true",
        "clients.messages_burst": 1_000_000,
        "logging.level": "debug",
    }
    async with AsyncExitStack() as stack:
        if request.param == "keys at a URL":
            server = await stack.enter_async_context(KeyServer(has([issuer.jwk])))
            settings |= {
                "auth.jwks_url": server.url,
                "auth.insecure_jwks": "true",
                "auth.audience": "us",
            }
        else:
            settings |= issuer.settings(tmp_path)
        yield await launch(settings=settings), issuer


def fit(tokens: Mapping[str, str]) -> dict[str, str]:
    """Those that a header or an address can carry."""
    return {
        name: token
        for name, token in tokens.items()
        if is_printable(token) and len(token) < HEADER_BYTES_MAX
    }


def is_unicode(token: str) -> bool:
    """Whether JSON can carry it: half of a surrogate pair is no character."""
    return not any("\ud800" <= c <= "\udfff" for c in token)


async def test_no_forged_token_opens_any_door_and_all_hear_the_same(
    stand: tuple[Gateway, Issuer],
) -> None:
    gateway, issuer = stand
    tokens = forged(issuer)
    carried = fit(tokens)
    good = issuer.token()
    async with aiohttp.ClientSession(gateway.url) as http:
        assert 200 == await status_with(http, good)
        for door in (rest, posting, stream, upgrade, in_the_address, upgrade_by_address):
            heard = Counter([await door(http, token) for token in carried.values()])
            assert 1 == len(heard), (door.__name__, heard)
        listed = [token for token in carried.values() if not set(token) & NOT_IN_A_LIST]
        heard = Counter([await as_subprotocol(http, token) for token in listed])
        assert 1 == len(heard), heard
        texts = {name: token for name, token in tokens.items() if is_unicode(token)}
        assert 1 == len(await in_messages(http, texts))
    page = "\n".join(gateway.lines)

    assert len(tokens) > 150
    assert len(carried) > 120
    assert [] == [name for name, token in tokens.items() if len(token) > 60 and token in page]
    assert good not in page
    gateway.token = good
    assert [] == (await gateway.get_json(f"{API}/channels/metrics/events"))["events"]


async def status_with(http: aiohttp.ClientSession, token: str) -> int:
    async with http.get(f"{API}/status", headers=bearer(token)) as answer:
        return answer.status


async def told(answer: aiohttp.ClientResponse) -> str:
    """All that an answer says, apart from when."""
    headers = {name: value for name, value in answer.headers.items() if name != "Date"}
    return json.dumps([answer.status, headers, await answer.text()])


async def rest(http: aiohttp.ClientSession, token: str) -> str:
    async with http.get(f"{API}/channels", headers=bearer(token)) as answer:
        assert 401 == answer.status
        return await told(answer)


async def posting(http: aiohttp.ClientSession, token: str) -> str:
    url = f"{API}/broadcast?channel=metrics"
    async with http.post(url, headers=bearer(token), json=NOTE) as answer:
        assert 401 == answer.status
        return await told(answer)


async def stream(http: aiohttp.ClientSession, token: str) -> str:
    async with http.get("/events?channels=metrics", headers=bearer(token)) as answer:
        assert 401 == answer.status
        return await told(answer)


async def in_the_address(http: aiohttp.ClientSession, token: str) -> str:
    async with http.get(f"{API}/channels?token={quote(token)}") as answer:
        assert 401 == answer.status
        return await told(answer)


async def upgrade(http: aiohttp.ClientSession, token: str) -> str:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect("/ws", headers=bearer(token))
    assert 401 == refused.value.status
    return refused.value.message


async def upgrade_by_address(http: aiohttp.ClientSession, token: str) -> str:
    return await closed(await http.ws_connect(f"/ws?token={quote(token)}"))


async def as_subprotocol(http: aiohttp.ClientSession, token: str) -> str:
    return await closed(await http.ws_connect("/ws", protocols=["neurograph", f"bearer.{token}"]))


async def closed(ws: aiohttp.ClientWebSocketResponse) -> str:
    """What a connection is told before it is closed, and how."""
    said = [message.data async for message in ws]
    assert 4501 == ws.close_code
    assert ["error", "closing"] == [json.loads(one)["type"] for one in said]
    return json.dumps([*said, ws.close_code])


async def in_messages(http: aiohttp.ClientSession, tokens: Mapping[str, str]) -> Heard:
    """Bring them all on one connection, which stays what it was."""
    heard: Heard = Counter()
    async with http.ws_connect("/ws") as ws:
        await ws.receive_json()
        for token in tokens.values():
            await ws.send_str(json.dumps({"type": "auth", "token": token}))
            answer = await ws.receive_json()
            assert "unauthorized" == answer["code"]
            heard[json.dumps(answer)] += 1
        await ws.send_json({"type": "subscribe", "channels": ["connections"]})
        [denied] = (await ws.receive_json())["denied"]
        assert "unauthorized" == denied["code"]
    return heard
