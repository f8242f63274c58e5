"""Publish this machine's CPU, memory, load, disk and network on ``metrics``.

Run as ``neurograph-system-metrics``; see ``--help``.
"""

import argparse
import signal
import socket
import sys
import threading
import time
from typing import Any

import psutil

from neurograph_publisher.checks import PublisherError
from neurograph_publisher.curve import Curve
from neurograph_publisher.publisher import Publisher


_MIB = 1024 * 1024
_SUBSCRIBER_SECONDS = 10.0
"""How long to wait for a gateway before the first event, which nobody would get without one."""
_LOOK_SECONDS = 0.1
_REPLAY = 1000
"""How many events are kept for replay: more than an hour of them at the default interval."""
_INTERVAL_SECONDS_MAX = 86_400
_FIRST_SECONDS = 0.2
"""The time over which the first figures are measured; CPU usage can only be measured over a time."""


class Sampler:
    """Measures the machine; rates are over the time since the last sample."""

    def __init__(self) -> None:
        self._host = socket.gethostname()
        self._at = time.monotonic()
        self._counters = _counters()
        psutil.cpu_percent()

    def sample(self) -> dict[str, Any]:
        """Return the fields of a ``system_metrics`` event; rates are in bytes per second."""
        at, counters = time.monotonic(), _counters()
        seconds = max(at - self._at, 1e-6)
        rates = {
            f"{name}_bytes_per_sec": round((value - self._counters.get(name, value)) / seconds, 1)
            for name, value in counters.items()
        }
        self._at, self._counters = at, counters
        memory = psutil.virtual_memory()
        load_1m, load_5m, load_15m = psutil.getloadavg()
        return {
            "host": self._host,
            "cpu_percent": psutil.cpu_percent(),
            "cpu_count": psutil.cpu_count(),
            "memory_mb": round((memory.total - memory.available) / _MIB, 1),
            "memory_percent": memory.percent,
            "load_1m": round(load_1m, 2),
            "load_5m": round(load_5m, 2),
            "load_15m": round(load_15m, 2),
            "disk_percent": psutil.disk_usage("/").percent,
            **rates,
        }


def _counters() -> dict[str, int]:
    found: dict[str, int] = {}
    if (disk := psutil.disk_io_counters()) is not None:  # None in some containers
        found |= {"disk_read": disk.read_bytes, "disk_write": disk.write_bytes}
    network = psutil.net_io_counters()
    return found | {"net_received": network.bytes_recv, "net_sent": network.bytes_sent}


def run(publisher: Publisher, *, interval: float, count: int, stop: threading.Event) -> None:
    """Publish a sample at once and then every `interval` seconds, `count` times (0 = forever)."""
    sampler = Sampler()
    deadline = time.monotonic() + _SUBSCRIBER_SECONDS
    while not stop.is_set() and time.monotonic() < deadline:
        if publisher.wait_for_subscriber(_LOOK_SECONDS):
            break
    stop.wait(min(_FIRST_SECONDS, interval))
    due = time.monotonic()
    while not stop.is_set():
        publisher.metrics(**sampler.sample())
        if count and publisher.published + publisher.dropped >= count:
            return
        due = max(due + interval, time.monotonic())
        stop.wait(due - time.monotonic())


def main() -> int:
    """Run until a signal, or until `--count` events were published."""
    parser = argparse.ArgumentParser(prog="neurograph-system-metrics", description=__doc__)
    parser.add_argument("--interval", type=float, default=5.0, help="seconds (5)")
    parser.add_argument("--count", type=int, default=0, help="events to publish (0 = forever)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--connect", default="tcp://127.0.0.1:5556", help="the gateway's endpoint")
    where.add_argument("--bind", help="an endpoint that gateways connect to")
    parser.add_argument(
        "--curve",
        nargs=2,
        metavar=("KEY_FILE", "GATEWAYS"),
        help="encrypt: the own .key_secret; the gateway's .key, or a folder of those that may connect",
    )
    arguments = parser.parse_args()
    if not 0 < arguments.interval <= _INTERVAL_SECONDS_MAX:
        parser.error(f"--interval: seconds, above 0 and at most {_INTERVAL_SECONDS_MAX}")
    if arguments.count < 0:
        parser.error("--count: 0 or more")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    endpoint = {"bind": arguments.bind} if arguments.bind else {"connect": arguments.connect}
    try:
        curve = Curve(*arguments.curve) if arguments.curve else None
        with Publisher(**endpoint, name=parser.prog, replay=_REPLAY, curve=curve) as publisher:
            run(publisher, interval=arguments.interval, count=arguments.count, stop=stop)
    except PublisherError as error:
        print(f"neurograph-system-metrics: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
