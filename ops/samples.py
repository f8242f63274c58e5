"""Publish made-up signals, actions and logs, so that there is something to look at: `make run` starts it.

Usage: python ops/samples.py [tcp://127.0.0.1:5556]
"""

import random
import signal
import sys
import threading
import time
from typing import Any

from neurograph_publisher import Publisher


_INTERVAL_SECONDS = 0.7
_REPLAY = 1_000
_SUBSCRIBER_SECONDS = 10.0
_KINDS = ("text", "image", "feedback", "tick")
_ACTIONS = ("send_message", "store_event", "search_neighbours", "adjust_weights")


def run(publisher: Publisher, stop: threading.Event) -> None:
    """Publish until `stop`: signals, sometimes an action that follows from one, and log messages about them."""
    choose = random.Random()  # noqa: S311  # nothing is secret here
    number = 0
    while not stop.wait(_INTERVAL_SECONDS):
        number += 1
        kind, action = choose.choice(_KINDS), choose.choice(_ACTIONS)
        score, priority = round(choose.random(), 3), choose.randrange(256)
        publisher.signal(
            kind,
            event_id=number,
            is_novel=score > 0.8,
            priority=priority,
            resonance_score=score,
            neighbors_count=choose.randrange(40),
        )
        if number % 3:
            continue
        publisher.action("started", action_id=number, action_type=action, status="started")
        publisher.log("info", f"{action} follows from signal {number}", service="demo-core", correlation_id=number)
        began = time.monotonic()
        if stop.wait(choose.uniform(0.02, 0.3)):
            return
        milliseconds = round((time.monotonic() - began) * 1000, 1)
        result: dict[str, Any] = {"action_id": number, "action_type": action, "execution_time_ms": milliseconds}
        if choose.random() < 0.15:
            publisher.action("failed", status="failed", error="no neighbour answered", **result)
            publisher.log(
                "error", f"{action} failed: no neighbour answered", service="demo-core", correlation_id=number
            )
        else:
            publisher.action("completed", status="completed", result={"neighbours": choose.randrange(40)}, **result)
            if milliseconds > 200:
                publisher.log(
                    "warning", f"{action} took {milliseconds} ms", service="demo-watch", correlation_id=number
                )


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5556"
    with Publisher(connect=endpoint, name="demo", replay=_REPLAY) as publisher:
        publisher.wait_for_subscriber(_SUBSCRIBER_SECONDS)
        run(publisher, stop)


if __name__ == "__main__":
    main()
