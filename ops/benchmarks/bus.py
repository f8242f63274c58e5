"""Measure what each gateway costs a publisher: ``python -m ops.benchmarks.bus``.

Subscribers in another process stand for gateways. The publisher is the Python one; its CPU time includes libzmq's
thread, which writes to each connection."""

import multiprocessing
import time

import zmq
from neurograph_publisher import Publisher


COUNTS = (1, 10, 30, 100)
RATES = (200, 5_000)
SECONDS = 4
IDLE_SECONDS = 0.02
DATA = "x" * 160
"""With the members of an event around it, 200 bytes."""


def subscribe(endpoint: str, count: int) -> None:
    """Receive everything on `count` sockets until the process is ended."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    for _ in range(count):
        one = context.socket(zmq.SUB)
        one.rcvhwm = 0
        one.subscribe(b"")
        one.connect(endpoint)
        poller.register(one, zmq.POLLIN)
    while True:
        for one, _ in poller.poll():
            try:
                while True:
                    one.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                pass


def measure(count: int, rate: int) -> float:
    """Return CPU microseconds of a publisher per event, with so many subscribers and events per second."""
    events = rate * SECONDS
    with Publisher(bind="tcp://127.0.0.1:*", high_water_mark=0, heartbeat_seconds=0.0) as publisher:
        load = multiprocessing.Process(target=subscribe, args=(publisher.endpoint, count), daemon=True)
        load.start()
        assert publisher.wait_for_subscriber(60)
        time.sleep(2)  # until all have subscribed: the publisher knows only whether any has
        began, used = time.monotonic(), time.process_time()
        for number in range(events):
            publisher.publish("metrics.bench", {"event_type": "x", "data": DATA})
            time.sleep(max(began + number / rate - time.monotonic(), 0))
        before = 0.0
        while (now := time.process_time()) - before > IDLE_SECONDS:  # libzmq's thread still writes
            before = now
            time.sleep(0.5)
        used = now - used
        load.terminate()
        load.join()
    return used / events * 1e6


if __name__ == "__main__":
    for subscribers in COUNTS:
        costs = [f"{measure(subscribers, rate):7.1f} at {rate} events/s" for rate in RATES]
        print(f"{subscribers:4} gateways, us of CPU per event: {', '.join(costs)}", flush=True)
