"""The driver of the Python publisher, which reads commands as lines of JSON: see publishers/conformance."""

import json
import sys
import time
from typing import Any

import orjson
import zmq
from neurograph_publisher import Curve, Publisher, PublisherError, envelope


class Driver:
    publisher: Publisher

    def open(self, *, curve: dict[str, str] | None = None, **options: Any) -> Any:
        keys = Curve(curve["key_file"], curve["gateways_file"]) if curve else None
        self.publisher = Publisher(curve=keys, **options)
        return {
            "incarnation": f"{self.publisher.incarnation:016x}",
            "endpoint": self.publisher.endpoint,
            "replay": self.publisher.replay_address,
        }

    def wait(self, *, seconds: float) -> bool:
        return self.publisher.wait_for_subscriber(seconds)

    def kind(self, *, kind: str, fields: dict[str, Any]) -> Any:
        return getattr(self.publisher, kind)(**fields)

    def publish(self, *, topic: str, data: Any, event_type: str | None = None) -> bool:
        return self.publisher.publish(topic, data, event_type)

    def raw(self, *, topic: str, json: str) -> bool:
        return self.publisher.publish(topic, orjson.Fragment(json))

    def unencodable(self, *, topic: str) -> bool:
        return self.publisher.publish(topic, object())

    def bytes(self, *, topic: str, hex: str, content_type: str | None = None) -> bool:
        return self.publisher.publish_bytes(topic, bytearray.fromhex(hex), content_type)

    def burst(self, *, topic: str, count: int, bytes: int) -> Any:
        published, dropped = self.publisher.published, self.publisher.dropped
        for n in range(count):
            empty = len(orjson.dumps({"n": n, "fill": ""}))
            self.publisher.publish(topic, {"n": n, "fill": "x" * (bytes - empty)})
        return {"published": self.publisher.published - published, "dropped": self.publisher.dropped - dropped}

    def counts(self) -> Any:
        return {"published": self.publisher.published, "dropped": self.publisher.dropped}

    def pack(self, **numbers: str) -> str:
        return envelope.pack(**{name: int(text) for name, text in numbers.items()}).hex()

    def bench(self, *, topic: str, count: int, json: str) -> float:
        data = orjson.loads(json)
        began = time.perf_counter()
        for _ in range(count):
            self.publisher.publish(topic, data)
        return time.perf_counter() - began

    def bare_open(self, *, endpoint: str) -> bool:
        self.socket = zmq.Context.instance().socket(zmq.PUB)
        self.socket.sndhwm = 0
        self.socket.connect(endpoint)
        return True

    def bare(self, *, topic: str, count: int, json: str) -> float:
        name, payload, envelope = topic.encode(), json.encode(), bytes(32)
        began = time.perf_counter()
        for _ in range(count):
            self.socket.send_multipart([name, payload, envelope])
        return time.perf_counter() - began

    def close(self) -> bool:
        self.publisher.close()
        return True


def main() -> None:
    driver = Driver()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"ok": getattr(driver, command.pop("do"))(**command)}
        except PublisherError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()
