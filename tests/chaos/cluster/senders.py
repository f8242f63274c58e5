"""Messages sent over REST: each is repeated with its idempotency key, at random gateways, until one acknowledges it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.chaos.cluster.account import Sent
from tests.chaos.cluster.client import ENGINE_CHANNELS, EVERYONE, PERSONAL, Port, Truth
from tests.chaos.cluster.websocket import WebSocketClient


_ANSWER_SECONDS = 3.0
_UNKNOWN_CLIENT = 404


class Senders:
    """Send messages to channels, to everyone and to single clients; `acknowledged` has the first two kinds by channel."""

    def __init__(self, ports: Sequence[Port], clients: Sequence[WebSocketClient], truth: Truth, seed: int) -> None:
        self.acknowledged: dict[str, list[Sent]] = defaultdict(list)
        self.personal: dict[int, list[Sent]] = defaultdict(list)
        """Acknowledged messages to single clients, by the client's index."""
        self.faults: list[str] = []
        self.pending: dict[int, str] = {}
        """By number, a description of each message that is not yet acknowledged, with the last answer."""
        self._random = random.Random(seed)
        self._ports = ports
        self._clients = clients
        self._places = truth.places
        self._number = 0
        self._ends = False
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *, per_second: float) -> None:
        """Send `per_second` messages to each channel, and as many to single clients."""
        for channel in ENGINE_CHANNELS:
            self._tasks.append(asyncio.create_task(self._keep_sending(channel, 1 / per_second)))

    async def finish(self) -> None:
        """Send one last message to each channel and each client, and wait until all messages are acknowledged."""
        self._ends = True
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*(self._send(channel) for channel in ENGINE_CHANNELS if channel != PERSONAL))
        for place in range(0, len(self._clients), 50):
            together = range(place, min(place + 50, len(self._clients)))
            await asyncio.gather(*(self._send(PERSONAL, one) for one in together))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    async def _keep_sending(self, channel: str, interval: float) -> None:
        while not self._ends:
            await self._send(channel)
            await asyncio.sleep(interval)

    async def _send(self, channel: str, place: int | None = None) -> None:
        """Send one message until it is acknowledged."""
        self._number += 1
        number, began, attempts = self._number, time.monotonic(), 0
        if channel == PERSONAL and place is None:
            place = self._random.randrange(len(self._clients))
        key, client_id = f"chaos-{number}", ""
        while True:
            if place is not None and self._clients[place].client_id != client_id:
                client_id = self._clients[place].client_id
                key = f"chaos-{number}-{client_id}"
            target = {"client_id": client_id} if channel == PERSONAL else {"everyone": True}
            body = target if channel in {PERSONAL, EVERYONE} else {"channel": channel}
            attempts += 1
            status, answer = await self._post({**body, "event": {"event_type": "sent", "data": {"n": number}}}, key)
            self.pending[number] = f"{channel} {client_id}: {attempts} attempts, last answer {status} {answer}"
            if status == 200:
                break
            if status not in {0, 503, _UNKNOWN_CLIENT}:
                self.faults.append(f"POST of message {number} to {channel}: {status} {answer}")
                return
            await asyncio.sleep(self._random.uniform(0.1, 0.5))
        del self.pending[number]
        position = answer.get("position") or {"epoch": "", "offset": 0}
        epoch, offset = position["epoch"], position["offset"]
        one = Sent(number, began, time.monotonic(), attempts, client_id, epoch, offset)
        if place is not None:
            self.personal[place].append(one)
            return
        if self._places.setdefault((channel, epoch, offset), number) != number:
            self.faults.append(f"{channel} {epoch}:{offset} was acknowledged for message {number}, and is another one")
        self.acknowledged[channel].append(one)

    async def _post(self, body: object, key: str) -> tuple[int, dict[str, Any]]:
        url = f"http://127.0.0.1:{self._random.choice(self._ports)()}/api/v1/websocket/broadcast"
        try:
            async with self._http.post(url, json=body, headers={"Idempotency-Key": key}) as answer:
                return answer.status, await answer.json()
        except (OSError, TimeoutError, aiohttp.ClientError):
            return 0, {}
