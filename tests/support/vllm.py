"""A publisher with numbers of its own, and with vLLM's replay."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import zmq

from tests.support.addresses import ipc
from tests.support.waiting import eventually


class Vllm:
    """Publishes and replays as vLLM's ZmqEventPublisher does, except that it can lose messages."""

    def __init__(self, folder: Path) -> None:
        self.table = {"endpoint": ipc(folder, "kv"), "preset": "vllm-kv", "replay": ipc(folder, "replay")}
        self.asked: list[int] = []
        """The first number of each request."""
        self.sent: list[tuple[bytes, bytes]] = []
        """The number and the payload of each message, also of lost ones."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._publisher, self._replay = context.socket(zmq.XPUB), context.socket(zmq.ROUTER)
        self._publisher.bind(self.table["endpoint"])
        self._replay.bind(self.table["replay"])
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    async def subscribed(self) -> None:
        await eventually(lambda: bool(self._publisher.poll(0)))

    def publish(self, data: object, *, is_lost: bool = False) -> None:
        number, payload = len(self.sent).to_bytes(8), msgspec.msgpack.encode(data)
        self.sent.append((number, payload))
        if not is_lost:
            self._publisher.send_multipart([b"", number, payload])

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._publisher.close(linger=0)
        self._replay.close(linger=0)

    def _answer(self) -> None:
        while not self._closed.is_set():
            if not self._replay.poll(20):
                continue
            identity, _, first = self._replay.recv_multipart()
            self.asked.append(int.from_bytes(first))
            for number, payload in self.sent[self.asked[-1] :]:
                self._replay.send_multipart([identity, b"", number, payload])
            self._replay.send_multipart([identity, b"", (-1).to_bytes(8, signed=True), b""])
