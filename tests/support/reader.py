"""A subscriber in a process of its own, so that a test can stop it: python -m tests.support.reader URL CHANNEL.

It writes one line when it is subscribed, and one with its account when an event's data says ``last``.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.support.ws import connect


async def read(url: str, channel: str) -> None:
    client = await connect(url, channel)
    subscribed = await client.expect("subscribed")
    start = subscribed["positions"][channel]["offset"]
    print(json.dumps({"subscribed": start}), flush=True)
    record = client.channel(channel)
    code = None
    while True:
        try:
            message = await client.next(within=600)
        except AssertionError:
            code = client.close_code
            break
        if message["type"] == "event" and message["data"].get("last"):
            break
    account = {
        "faults": record.faults(after=start),
        "events": len(record.events),
        "gaps": record.gaps,
        "end": record.spans[-1][1] if record.spans else start,
        "close_code": code,
    }
    print(json.dumps(account), flush=True)
    await client.close()


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1], sys.argv[2]))
