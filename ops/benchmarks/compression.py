"""Measure the cost of compressing a message, and its size afterwards: ``python -m ops.benchmarks.compression``."""

import json
import random
import time

from gateway.core.protocol.deflate import Compressor
from gateway.core.protocol.frames import text_frame


COUNT = 500
SIZES = (200, 1_000, 5_000)
WORDS = ("cpu_percent", "memory_mb", "disk", "errors", "latency", "queue")


def message(number: int, size: int) -> bytes:
    """Return a text frame with an event of about this size, with random numbers in it."""
    data: dict[str, float] = {}
    event = {"type": "event", "channel": "metrics", "offset": number, "data": data}
    while len(json.dumps(event)) < size:
        data[f"{random.choice(WORDS)}_{len(data)}"] = random.random() * 100  # noqa: S311  # no secret
    return text_frame(json.dumps(event, separators=(",", ":")).encode())


def main() -> None:
    """Print a line for each size."""
    for size in SIZES:
        encode = Compressor(1, on_compressed=int).encoder(15)
        messages = [message(number, size) for number in range(COUNT)]
        began = time.process_time()
        packed = [encode(one) for one in messages]
        took = (time.process_time() - began) / COUNT
        share = sum(map(len, packed)) / sum(map(len, messages))
        print(f"{size:>6,} bytes  {took * 1e6:5.0f} us once  {share:.2f} of the size")


if __name__ == "__main__":
    main()
