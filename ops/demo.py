"""Print the events of some channels as a WebSocket client receives them.

Usage: python ops/demo.py [ws://127.0.0.1:8000/ws] [channel …]      (metrics by default)
"""

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

import aiohttp


async def follow(url: str, channels: list[str]) -> None:
    """Subscribe, and print messages until the connection ends."""
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
        await ws.send_json({"type": "subscribe", "channels": channels, "last": 1})
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                print(line(json.loads(message.data)), flush=True)


def line(message: dict[str, Any]) -> str:
    """Return one line for a message: an event with its data, any other message as JSON."""
    if message["type"] != "event":
        return f"< {json.dumps(message)}"
    data = message.get("data")
    shown = "  ".join(f"{k}={v}" for k, v in data.items()) if isinstance(data, dict) else data
    return f"< {message['channel']} #{message['offset']} {message.get('event_type', '')}  {shown}"


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8000/ws"
    with suppress(KeyboardInterrupt):
        asyncio.run(follow(address, sys.argv[2:] or ["metrics"]))
