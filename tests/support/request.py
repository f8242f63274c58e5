"""One HTTP request with any header lines, as no client library would send it."""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass

from tests.support.gateway import Gateway
from tests.support.waiting import DEADLINE_SECONDS, scaled


@dataclass(frozen=True)
class Said:
    """What the gateway said to one request, up to the end of its headers."""

    status: int
    headers: dict[str, str]
    text: str


async def ask(
    gateway: Gateway,
    target: str,
    *fields: str,
    host: str | None = "127.0.0.1",
    method: str = "GET",
    version: str = "1.1",
) -> Said:
    """Send one request with these header lines, as they are, and close."""
    lines = [f"{method} {target} HTTP/{version}", *([f"Host: {host}"] if host is not None else [])]
    if target.endswith("/ws"):
        key = base64.b64encode(os.urandom(16)).decode()
        lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}"]
        lines += ["Sec-WebSocket-Version: 13"]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write("\r\n".join([*lines, *fields, "", ""]).encode("utf-8", "surrogateescape"))
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *rest = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}
            size = int(headers.get("content-length", 0))
            text = (await reader.readexactly(size)).decode() if method != "HEAD" else ""
    finally:
        writer.close()
    return Said(int(first.split()[1]), headers, text)
