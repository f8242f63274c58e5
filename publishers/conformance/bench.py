"""How many messages per second a publisher sends, compared with its ZeroMQ library in the same run."""

import json
import statistics
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import zmq

from publishers.conformance.languages import Language
from publishers.conformance.processes import Setting, until


ROUNDS = 5
MESSAGES = 100_000
PAYLOAD = json.dumps({"cpu_percent": 12.5, "memory_mb": 2048, "host": "core-1", "ok": True})


def _rates(language: Language) -> tuple[float, float]:
    """Return messages per second: the publisher's, and the bare library's."""
    with tempfile.TemporaryDirectory() as scratch, Setting(language, Path(scratch)) as setting:
        subscriber = setting.subscriber()
        driver = setting.driver(connect=subscriber.endpoint, high_water_mark=0)
        subscriber.await_publisher(driver)
        driver.ask("bare_open", endpoint=subscriber.endpoint)
        got: dict[bytes, int] = {}
        ended = threading.Event()

        def drain() -> None:
            while not ended.is_set():
                if subscriber.socket.poll(50):
                    topic = subscriber.socket.recv()
                    while subscriber.socket.get(zmq.RCVMORE):
                        subscriber.socket.recv()
                    got[topic] = got.get(topic, 0) + 1

        def has_come(topic: str) -> bool:
            return got.get(topic.encode()) == MESSAGES

        reader = threading.Thread(target=drain)
        reader.start()
        try:
            until(lambda: driver.ask("bare", topic="warm", count=1, json="1") and b"warm" in got, "a bare message")
            ours: list[float] = []
            bare: list[float] = []
            for n in range(ROUNDS):
                for do, rates in (("bench", ours), ("bare", bare)):
                    topic = f"{do}.{n}"
                    seconds = driver.ask(do, topic=topic, count=MESSAGES, json=PAYLOAD)
                    rates.append(MESSAGES / seconds)
                    until(partial(has_come, topic), f"all of {topic}")
        finally:
            ended.set()
            reader.join()
    return statistics.median(ours), statistics.median(bare)


def compare(languages: Sequence[Language]) -> str:
    """Measure each language; return a table."""
    lines = ["| publisher | messages/s | bare library | ratio |", "|---|---|---|---|"]
    for language in languages:
        ours, bare = _rates(language)
        lines.append(f"| {language.name} ({language.library}) | {ours:,.0f} | {bare:,.0f} | {ours / bare:.2f} |")
    return "\n".join(lines)
