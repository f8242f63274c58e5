"""Whatever names and addresses hold, a record in the log stays one line, and nobody else's."""

from __future__ import annotations

import asyncio
import json
import re
from urllib.parse import quote

import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.gateway import Gateway
from tests.support.sse import EventSource
from tests.support.tokens import SETTINGS, bearer, token
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


API = "/api/v1/websocket"
MARK = "forged"
STAMP = "2026-01-01T00:00:00.000000Z"
NAMES = [
    f'{end}{{"message":"{MARK}","level":"error","timestamp":"{STAMP}"}}{end}'
    for end in ("\n", "\r\n", "\r", "\x85", "\u2028", "\v", "\f")
] + [
    f"\n{STAMP} [error    ] {MARK}                      [gateway.audit]\n",
    f"\x1b[2J\x1b[31m{MARK}\x1b]0;{MARK}\x07\x9b31m\b\b\b",
    f"\u202e{MARK}\u2066\u200f\x00\x7f\ufeff",
]
"""Ends of lines as any reader knows them, orders to a terminal, turns of the writing."""
RECORD = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[\w+ *\] (.*)")
"""What each line for people begins with."""


@pytest.mark.parametrize("format", ["json", "console"])
async def test_no_name_that_a_client_gives_forges_a_line(
    launch: Launch, connect: Connect, publisher: NewPublisher, format: str
) -> None:
    """Users, targets, channels, topics, addresses, origins, hosts and paths, without authentication."""
    gateway = await launch(
        settings={"logging.level": "debug", "logging.format": format, "trusted_proxies": "127.0.0.1"}
    )
    bus = await publisher(gateway.bus_in)
    for n, name in enumerate(NAMES):
        client = await connect(to=gateway, user_id=name)
        await client.refused({"type": "subscribe", "channels": [name]})
        await client.send({"type": name, "id": name})
        await connect(name, to=gateway, since=name, rate=name)
        await gateway.broadcast({"user_id": name, "event": {"event_type": name, "data": name}})
        async with EventSource(gateway.url, f"channels=metrics&user_id={quote(name)}"):
            pass
        for path in (f"/{quote(name)}", f"{API}/channels/{quote(name)}", f"/events?last={quote(name)}"):
            await gateway.request("GET", path)
        bus.send_frames(name.encode(), b"{}")
        bus.send_frames(f"metrics{n}".encode(), b'{"event_type":"' + name.encode() + b'"}')
        for header in ("X-Forwarded-For", "Origin", "Host", "User-Agent", "Upgrade"):
            await ask_raw(gateway, header, name)
    await eventually(
        lambda: any("event_rejected" in line and MARK in line for line in gateway.lines),
        saying="what the bus brought is told",
    )

    every_line_is_the_gateways(gateway, format)
    for event in ("client_connected", "broadcast", "event_rejected"):
        assert any(event in line and MARK in line for line in gateway.lines), event


@pytest.mark.parametrize("format", ["json", "console"])
async def test_nothing_that_is_signed_forges_a_line_either(launch: Launch, connect: Connect, format: str) -> None:
    """Names in tokens are another's, too: those that could do harm are not taken."""
    gateway = await launch(
        settings={**SETTINGS, "logging.level": "debug", "logging.format": format, "roles.anonymous.subscribe": ""}
    )
    for name in NAMES:
        for claims in ({"user": name}, {"roles": [name]}, {"permissions": {"publish": [name]}}):
            client = await connect(to=gateway)
            await client.send({"type": "auth", "token": token(**claims)})
            await client.next()
    harmless = f"{MARK} O'Brien \\n \\u001b %s {{}}"
    client = await connect(to=gateway, headers=bearer(token(user=harmless)))
    await client.subscribe("no.such", "*")
    await eventually(lambda: any("subscription_denied" in line for line in gateway.lines))

    every_line_is_the_gateways(gateway, format)
    assert any("client_connected" in line and MARK in line for line in gateway.lines)


async def ask_raw(gateway: Gateway, header: str, name: str) -> None:
    """Ask with a header that no client of ours would send."""
    lines = {"Host": "127.0.0.1", header: name}
    head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n" + head.encode() + b"Connection: close\r\n\r\n")
    async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
        await reader.read()
    writer.close()


def every_line_is_the_gateways(gateway: Gateway, format: str) -> None:
    """No line with more than text in it, none that a name began."""
    lines = list(gateway.lines)
    assert [] == [line for line in lines if not line.isprintable()]
    if format == "json":
        assert [] == [line for line in lines if not line.isascii()]
        events = [json.loads(line)["message"] for line in lines]
    else:
        found = [RECORD.fullmatch(line) for line in lines]
        assert [] == [line for line, match in zip(lines, found, strict=True) if match is None]
        events = [match[1] for match in found if match]
    assert [] == [event for event in events if event.startswith(MARK)]
