"""Connected publishers and gateways, and the test vectors, for all cases."""

import json
from pathlib import Path
from typing import Any

from publishers.conformance.processes import Driver, Gateway, Setting, Subscriber
from tests.support.addresses import free_tcp


PAYLOAD_BYTES_MAX = 1_048_576
VECTORS = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def u64(value: int) -> bytes:
    return value.to_bytes(8)


def connected(setting: Setting, **options: Any) -> tuple[Gateway, Driver]:
    """Start a gateway that binds, and a publisher that connects to it."""
    endpoint = free_tcp()
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    driver = setting.driver(connect=endpoint, **options)
    assert driver.ask("wait", seconds=20), "wait_for_subscribers: no subscriber within 20 s"
    return gateway, driver


def bound(setting: Setting, **options: Any) -> tuple[Gateway, Driver]:
    """Start a publisher that binds, and a gateway that connects to it."""
    driver = setting.driver(bind="tcp://127.0.0.1:*", **options)
    gateway = setting.gateway(f'connect = ["{driver.opened["endpoint"]}"]', 'bind = ""')
    assert driver.ask("wait", seconds=20), "wait_for_subscribers: no subscriber within 20 s"
    return gateway, driver


def seen(setting: Setting, **options: Any) -> tuple[Subscriber, Driver]:
    """Start a publisher, and a plain SUB that reads its frames."""
    driver = setting.driver(bind="tcp://127.0.0.1:*", **options)
    subscriber = setting.subscriber(connect=driver.opened["endpoint"])
    subscriber.await_publisher(driver)
    return subscriber, driver


def restarted(setting: Setting, gateway: Gateway, driver: Driver) -> None:
    def publish(numbers: range) -> None:
        for n in numbers:
            driver.ask("publish", topic="r", data=n)

    publish(range(300))
    gateway.events("r", 300)
    gateway.kill()
    publish(range(300, 600))
    gateway.start()
    publish(range(600, 700))
    events = gateway.events("r", 700)
    assert [(one["type"], one["offset"], one["data"]) for one in events] == [("event", n + 1, n) for n in range(700)], (
        "a gap, or events out of order"
    )
    assert {one["epoch"] for one in events if "epoch" in one} == {driver.opened["incarnation"]}
    assert gateway.get("publishers")["lost"] == 0
